"""Measures texts about the demo shop: how many the model writes, what they cost, and whether they are true.

`python -m benchmarks.text_facts [--texts 500] [--show 10]` writes texts with the engine as a worker runs it:
half of them about one item, half about three items, as for a segment. The published texts are checked against
the rows by benchmarks/text_claims.py, which shares no code with the product's own checks; planted lies show
whether it finds them. The result is stored in benchmarks/results/text_facts.json. The exit status is 1 if a
published text states something that its rows do not support.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from benchmarks.machine import machine_facts, write_result
from benchmarks.text_claims import Row, ShopVocabulary, unlisted_words, words_of
from examples.recommendations.goods import make_goods
from examples.recommendations.shop import LAST_DAY
from jobs.inference import Completion, Inference, Prompt, Sampling, Usage
from kinds.recommendation.catalogue.item import Item
from kinds.recommendation.texts.text import Text, TextPolicy, TextRequest, text_key, text_seed
from kinds.recommendation.texts.write import generate_text, text_template
from workers.engine import EngineOptions, Request
from workers.model_pool import LanguageModel, load_models
from workers.process import JOBS_PER_SLOT
from workers.settings import DEFAULT_MODEL, Settings

SEED = 20_260_101
NUM_ITEMS = 2_000
CLAIMS = ("waterproof", "handmade", "discounted", "best")
SHARED_CATEGORY = 0.6
"""Share of segments whose items are all of one category; the other segments are mixed."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A text with its request and with its items' rows in the catalogue of the shop."""

    request: TextRequest
    rows: tuple[Row, ...]
    text: Text

    @property
    def parts(self) -> tuple[str, str, str]:
        return self.text.headline, self.text.blurb, self.text.reason


class BareInference:
    """The part of Inference that texts use. Thread-safe.

    It calls the engine directly, and counts calls and tokens.
    """

    def __init__(self, model: LanguageModel) -> None:
        self._model = model
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self.usage = Usage()
        self.num_calls = 0

    def generate(self, prompt: Prompt, sampling: Sampling, *, model: str | None = None) -> Completion:  # noqa: ARG002
        ids = self._model.tokenizer.encode_chat(
            tuple((message.role, message.content) for message in prompt.messages)
        )
        request = Request(request_id=str(next(self._numbers)), prompt_ids=ids, sampling=sampling)
        completion = self._model.engine.submit(request).result()
        with self._lock:
            self.usage += completion.usage
            self.num_calls += 1
        return completion


def make_requests(
    rows: Sequence[Row], number: int, policy: TextPolicy
) -> list[tuple[TextRequest, tuple[Row, ...]]]:
    """Return requests for items and segments in turn, drawn with a seed; half of the items have a reason."""
    draw = random.Random(SEED)
    categories = sorted({row["category"] for row in rows})
    requests = []
    for index in range(number):
        because: str | None
        if index % 2:
            category = draw.choice(categories)
            is_shared = draw.random() < SHARED_CATEGORY
            pool = [row for row in rows if row["category"] == category] if is_shared else list(rows)
            chosen = tuple(sorted(draw.sample(pool, 3), key=lambda row: row["id"]))
            audience, because = f"segment:{category}", category
        else:
            chosen = (draw.choice(rows),)
            other = draw.choice(rows)["title"]
            audience, because = f"item:{chosen[0]['id']}", draw.choice([None, other])
        items = [item_of(row) for row in chosen]
        requests.append((TextRequest.about(audience, items, because, policy), chosen))
    return requests


def item_of(row: Row) -> Item:
    """Return the item that ingest makes from the row."""
    names = ("brand", "line", "material", "colour", "size", "cut")
    return Item(
        id=row["id"],
        title=row["title"],
        text=row["description"],
        category=row["category"] or None,
        attributes={name: row[name] for name in names if row[name]},
        price=float(row["price"]),
        currency=row["currency"],
    )


def write_all(
    requests: Sequence[tuple[TextRequest, tuple[Row, ...]]],
    policy: TextPolicy,
    inference: BareInference,
    places: int,
) -> list[Sample]:
    """Write all texts, with as many at a time as a worker has jobs."""
    template_sha256 = text_template(policy).identity.sha256

    def write(job: tuple[TextRequest, tuple[Row, ...]]) -> Sample:
        request, rows = job
        seed = text_seed(text_key(request, policy, template_sha256, DEFAULT_MODEL))
        return Sample(request, rows, generate_text(request, policy, cast("Inference", inference), seed))

    with ThreadPoolExecutor(places) as pool:
        return list(pool.map(write, requests))


def num_false(written: Sequence[Sample], vocabulary: ShopVocabulary) -> int:
    """Print the published texts that state something their rows do not support, and return their number."""
    false = 0
    for each in written:
        lies = [
            lie
            for part in each.parts
            for lie in vocabulary.lies(part, each.rows, because=each.request.because)
        ]
        false += bool(lies)
        for lie in lies:
            print(f"FALSE {lie.kind}: {lie.said!r} in {lie.sentence!r}", file=sys.stderr)
    return false


def plant(written: Sequence[Sample], vocabulary: ShopVocabulary, rows: Sequence[Row]) -> dict[str, object]:
    """Plant lies of each kind in published blurbs, and return how many of them the checker finds."""
    draw = random.Random(SEED)
    planted: Counter[str] = Counter()
    found: Counter[str] = Counter()
    for each in written:
        row, other = each.rows[0], draw.choice(rows)
        blurb = each.text.blurb
        claim, said = draw.choice(CLAIMS), set[str]().union(*map(words_of, each.rows))
        lies = {
            "colour": _swapped(blurb, row, row["colour"], other["colour"]),
            "material": _swapped(blurb, row, row["material"], other["material"]),
            "maker": _swapped(blurb, row, row["brand"], other["brand"]),
            "price": blurb.replace(" EUR", "9 EUR"),
            "claim": blurb if claim in said else blurb.replace(".", f", {claim}.", 1),
            "size": blurb.replace(".", ", for two people.", 1),
        }
        if len(each.rows) > 1:
            lies["another item's"] = _swapped(blurb, row, row["material"], each.rows[1]["material"])
        for kind, text in lies.items():
            if text != blurb:
                planted[kind] += 1
                found[kind] += any(vocabulary.lies(text, each.rows, because=each.request.because))
    return {kind: {"planted": number, "found": found[kind]} for kind, number in planted.items()}


def _swapped(text: str, row: Row, one: str, other: str) -> str:
    """Return the text with a value of another row, provided that the row itself does not contain it."""
    is_lie = bool(one and other) and not set(other.lower().split()) <= words_of(row)
    return text.replace(one, other, 1) if is_lie else text


def report(written: Sequence[Sample], inference: BareInference, seconds: float) -> dict[str, object]:
    """Return figures on the texts: their number by origin, tries, problems, tokens and seconds."""
    by_scope: dict[str, object] = {}
    for name, texts in (
        ("item", [each.text for each in written if len(each.rows) == 1]),
        ("segment", [each.text for each in written if len(each.rows) > 1]),
    ):
        by_scope[name] = {
            "texts": len(texts),
            "by_model": sum(text.origin == "model" for text in texts),
            "whole_by_model": sum(not text.template_parts for text in texts),
            "tries": dict(sorted(Counter(text.num_tries for text in texts).items())),
            "plain_parts": dict(Counter(part for text in texts for part in text.template_parts)),
        }
    problems = Counter(_kind_of(problem) for each in written for problem in each.text.problems)
    return {
        "texts": len(written),
        "by_model": sum(each.text.origin == "model" for each in written),
        **by_scope,
        "problems": dict(problems.most_common()),
        "calls": inference.num_calls,
        "prompt_tokens": inference.usage.prompt_tokens,
        "cached_tokens": inference.usage.cached_tokens,
        "new_tokens": inference.usage.new_tokens,
        "new_tokens_per_text": round(inference.usage.new_tokens / len(written), 1),
        "seconds": round(seconds, 1),
        "texts_per_second": round(len(written) / seconds, 3),
    }


def _kind_of(problem: str) -> str:
    """Return the kind of a problem: "blurb: word" for "blurb: word: red"."""
    return ": ".join(problem.split(": ")[:2])


def show(written: Sequence[Sample]) -> None:
    """Print the texts for a person to read."""
    for each in written:
        print(" / ".join(", ".join(map(str, item.row.values())) for item in each.request.items))
        print(f"  [{each.text.origin}] {each.text.headline}\n  {each.text.blurb}\n  {each.text.reason}\n")


def keep(written: Sequence[Sample], path: Path) -> None:
    """Write all texts to a file, for later inspection."""
    with path.open("w", encoding="utf-8") as file:
        for each in written:
            row = {"because": each.request.because, "rows": each.rows, **each.text.model_dump(mode="json")}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def open_engine(models: Path) -> LanguageModel:
    """Open the engine as a worker does."""
    options = EngineOptions(num_threads=len(os.sched_getaffinity(0)))
    return load_models(models, [DEFAULT_MODEL], engine="transformers", options=options).generator(
        DEFAULT_MODEL
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=int, default=500)
    parser.add_argument("--show", type=int, default=0, help="print so many of the texts")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="write all texts with their rows, JSONL")
    parser.add_argument("--dry", action="store_true", help="keep no result")
    given = parser.parse_args()
    policy = TextPolicy()
    rows: list[Row] = [good.row for good in make_goods(NUM_ITEMS, random.Random(1), last_day=LAST_DAY)]
    model = open_engine(Settings().models_folder)
    inference = BareInference(model)
    begun_at = time.perf_counter()
    requests = make_requests(rows, given.texts, policy)
    written = write_all(requests, policy, inference, int(model.engine.info.num_slots * JOBS_PER_SLOT))
    figures = report(written, inference, time.perf_counter() - begun_at)
    model.engine.close()
    show(written[: given.show])
    if given.keep is not None:
        keep(written, given.keep)
    vocabulary = ShopVocabulary(rows)
    false = num_false(written, vocabulary)
    words = unlisted_words((part for each in written for part in each.parts), rows)
    result: Mapping[str, object] = {
        **figures,
        "false": false,
        "planted_lies": plant(written, vocabulary, rows),
        "words_of_no_row": sorted(words),
        "machine": machine_facts(),
    }
    for name, value in result.items():
        print(f"{name:20} {value}")
    if not given.dry:
        write_result("text_facts", result)
    return 1 if false else 0


if __name__ == "__main__":
    raise SystemExit(main())

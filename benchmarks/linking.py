"""Measures quality and speed of linking and of finding near-duplicates, on public headlines and posts.

`python -m benchmarks.linking --data DIR [--embedder NAME]` measures three things: links in SEntFiN's
headlines, with the annotators' names as the watch list; links in texts of other domains, which are not about
companies; and duplicates among edited headlines and posts whose meaning is unchanged. With an installed
embedder, it also measures the thresholds for topics and for shared names. The figures are printed and stored
in benchmarks/results/linking.json.
"""

from __future__ import annotations

import argparse
import ast
import csv
import json
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.machine import machine_facts, write_result
from jobs.documents.document import Document
from jobs.documents.reading import read_documents
from kinds.sentiment.documents.language import is_common
from kinds.sentiment.documents.linking import Link, Linker, settle
from kinds.sentiment.documents.prepare import prepare, signature, unpack
from kinds.sentiment.documents.watchlist import Entity, EntityKind, Watchlist
from kinds.sentiment.documents.watchlist_file import slug
from kinds.sentiment.series.novelty import MIN_MATCHES

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SEED = 20_260_101
MIN_LABELS = 10
"""Minimum number of labels of an entity on the short watch list, which has names that users would follow."""
SETS = ("sentiment/sentfin.csv", "series/stocknet-aapl-tweets.jsonl.gz", "generation/e2e-dev.csv",
        "customer-service/banking77-train.csv", "sentiment/twitter-financial-news-train.csv")  # fmt: skip
WORD_NAMES = (
    "Apple", "Target", "Gap", "Visa", "Ford", "Meta", "Block", "Match", "Snap", "Shell", "Oracle", "Square",
    "Unity", "Best Buy", "General Motors", "Citizens", "Discover", "Chase", "Wise", "Monday", "Zoom", "Dish",
    "Eagle", "Phoenix",
)  # fmt: skip
WORD_TICKERS = (
    "ALL", "IT", "CAT", "F", "T", "A", "ON", "KEY", "NOW", "SO", "ARE", "LOW", "BEST", "CARD", "ATM", "PIN",
)  # fmt: skip
_NUMBERS = re.compile(r"\d[\d.,]*")


class Labelled(NamedTuple):
    """A headline with the names that annotators found in it."""

    text: str
    names: tuple[str, ...]


def main() -> None:
    """Run the measurements and store the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True, help="folder of the public sets")
    parser.add_argument("--embedder", default="", help="an installed embedding model, to measure vectors too")
    arguments = parser.parse_args()
    if missing := [name for name in SETS if not (arguments.data / name).is_file()]:
        print(
            f"{arguments.data} has no {', '.join(missing)}: get SEntFiN from pyRis/SEntFiN, the posts from"
            " yumoxu/stocknet-dataset, E2E from tuetschek/e2e-dataset, Banking77 from"
            " PolyAI-LDN/task-specific-datasets, tweets from zeroshot/twitter-financial-news-sentiment",
            file=sys.stderr,
        )
        raise SystemExit(2)
    headlines = read_sentfin(arguments.data / SETS[0])
    posts = [document.text for document in _posts(arguments.data / SETS[1])]
    result: dict[str, object] = {
        "machine": machine_facts(),
        "linking": {
            "every_name": measure_linking(headlines, min_labels=1),
            f"names_of_{MIN_LABELS}_headlines_or_more": measure_linking(headlines, min_labels=MIN_LABELS),
        },
        "common_words_elsewhere": {
            "e2e": measure_common_words(column(arguments.data / SETS[2], "ref")),
            "banking77": measure_common_words(column(arguments.data / SETS[3], "text")),
        },
        "near_duplicates": {
            "min_matches_of_64": MIN_MATCHES,
            "headlines": measure_duplicates([one.text for one in headlines]),
            "posts": measure_duplicates(list(dict.fromkeys(posts))[:4_000]),
        },
        "speed": measure_speed([one.text for one in headlines], arguments.data / SETS[1], headlines),
    }
    if arguments.embedder:
        from benchmarks.linking_vectors import measure_vectors

        result["vectors"] = measure_vectors(
            headlines, arguments.data / SETS[3], arguments.data / SETS[4], arguments.embedder
        )
    print(json.dumps(result, indent=2))
    print(write_result("linking", without_texts(result)))


def without_texts(result: Mapping[str, object]) -> dict[str, object]:
    """Return the figures to store, without the sampled texts, which belong to their owners."""
    return {
        name: without_texts(value) if isinstance(value, dict) else value
        for name, value in result.items()
        if not name.startswith("drawn_")
    }


def read_sentfin(path: Path) -> list[Labelled]:
    """Return the headlines whose labels can be parsed."""
    labelled = []
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            try:
                names = ast.literal_eval(row["Decisions"])
            except (SyntaxError, ValueError):
                continue
            labelled.append(Labelled(row["Title"], tuple(name.strip() for name in names if name.strip())))
    return labelled


def column(path: Path, name: str) -> list[str]:
    """Return one column of a CSV file."""
    with path.open(newline="", encoding="utf-8") as file:
        return [row[name] for row in csv.DictReader(file)]


def watchlist_of(headlines: Sequence[Labelled], *, min_labels: int) -> Watchlist:
    """Return a watch list of annotators' names; names that differ only in case and signs are one entity.

    A name that annotators mostly write without a capital, or that is a common word, is a topic ("gold").
    """
    written: dict[str, Counter[str]] = {}
    for headline in headlines:
        for name in headline.names:
            written.setdefault(slug(name), Counter())[name] += 1
    entities = []
    for key, names in written.items():
        if names.total() < min_labels:
            continue
        name = names.most_common(1)[0][0]
        kind = EntityKind.TOPIC if is_common(name) or name[0].islower() else EntityKind.COMPANY
        entities.append(Entity(id=key, kind=kind, name=name[:100], aliases=tuple(names)))
    return Watchlist(name="names", entities=tuple(entities))


def measure_linking(headlines: Sequence[Labelled], *, min_labels: int) -> dict[str, object]:
    """Return precision and recall of pairs of headline and entity, by the annotators' names.

    Annotators named the entities towards which a mood is expressed, not all that are mentioned ("India",
    "stocks"), so precision is a lower bound, which is looser for topics than for companies.
    """
    watchlist = watchlist_of(headlines, min_labels=min_labels)
    linker = Linker(watchlist)
    result: dict[str, object] = {"headlines": len(headlines)}
    found = [{link.entity_id for link in links_of(linker, headline.text)} for headline in headlines]
    for kind in EntityKind:
        watched = {entity.id for entity in watchlist.entities if entity.kind is kind}
        wanted = [{slug(name) for name in headline.names} & watched for headline in headlines]
        num_both = sum(len(want & got) for want, got in zip(wanted, found, strict=True))
        precision = num_both / sum(len(got & watched) for got in found)
        recall = num_both / sum(map(len, wanted))
        result[kind] = {
            "watched": len(watched),
            "pairs": sum(map(len, wanted)),
            "precision": round(precision, 4),
            "recall": round(recall, 4),
            "f1": round(2 * precision * recall / (precision + recall), 4),
        }
    return result


def links_of(linker: Linker, text: str) -> list[Link]:
    """Return the links of a text that are found by names alone."""
    prepared = prepare(Document(id="1", text=text, published_at=NOW))
    return settle(linker.link(prepared), {})[0]


def measure_common_words(texts: Sequence[str]) -> dict[str, object]:
    """Count links in texts that are not about companies, for names and tickers that are common words."""
    entities = [Entity(id=slug(name), kind=EntityKind.COMPANY, name=name) for name in WORD_NAMES]
    entities += [
        Entity(
            id=f"ticker-{ticker.lower()}",
            kind=EntityKind.COMPANY,
            name=f"{ticker} Holding",
            tickers=(ticker,),
        )
        for ticker in WORD_TICKERS
    ]
    linker = Linker(Watchlist(name="words", entities=tuple(entities)))
    found: Counter[str] = Counter()
    num_doubted = 0
    for text in texts:
        links = linker.link(prepare(Document(id="1", text=text, published_at=NOW)))
        found.update(link.passages[0].target for link in links if not link.is_ambiguous)
        num_doubted += sum(link.is_ambiguous for link in links)
    return {
        "texts": len(texts),
        "linked": found.total(),
        "as": dict(found.most_common(10)),
        "left_to_the_embedding": num_doubted,
    }


def _posts(path: Path) -> list[Document]:
    return [made for made in read_documents(path, now=NOW) if isinstance(made, Document)]


EDITS: dict[str, Callable[[list[str], random.Random], str]] = {
    "case, signs and a link": lambda words, _: (
        " ".join(words).upper().replace(",", "") + " https://t.co/a1B2c3"
    ),
    "a repost's mark": lambda words, _: "RT @trader: " + " ".join(words),
    "the publisher's name at the end": lambda words, _: " ".join(words) + " - Reuters",
    "UPDATE 1- before it": lambda words, _: "UPDATE 1-" + " ".join(words),
    "cut to nine tenths": lambda words, _: " ".join(words[: max(1, round(len(words) * 0.9))]) + "...",
    "one word left out": lambda words, draw: " ".join(_with(words, draw)),
    "one word replaced": lambda words, draw: " ".join(_with(words, draw, _pseudo_word(draw))),
    "two neighbours swapped": lambda words, draw: " ".join(_swapped(words, draw)),
}


def measure_duplicates(texts: Sequence[str]) -> dict[str, object]:
    """Return the recall for edits that keep the meaning, and how many found pairs have the same numbers."""
    draw = random.Random(SEED)
    sample = [text for text in draw.sample(list(texts), min(len(texts), 2_000)) if len(text.split()) >= 6]
    originals = unpack([signature(text) for text in sample])
    recall = {}
    for name, edit in EDITS.items():
        edited = unpack([signature(edit(text.split(), draw)) for text in sample])
        recall[name] = round(float(np.mean(np.sum(originals == edited, axis=1) >= MIN_MATCHES)), 4)
    pairs = similar_pairs(texts)
    same = sum(_numbers(texts[first]) == _numbers(texts[second]) for first, second in pairs)
    return {
        "texts": len(sample),
        "recall": recall,
        "pairs_among": len(texts),
        "pairs_found": len(pairs),
        "pairs_with_the_same_numbers": same,
        "drawn_pairs": [
            [texts[first], texts[second]] for first, second in draw.sample(pairs, min(len(pairs), 20))
        ],
    }


def _numbers(text: str) -> list[str]:
    return sorted(_NUMBERS.findall(text))


def similar_pairs(texts: Sequence[str]) -> list[tuple[int, int]]:
    """Return all pairs of texts whose signatures are similar enough; every pair is compared."""
    rows = unpack([signature(text) for text in texts])
    pairs: list[tuple[int, int]] = []
    for first in range(len(rows) - 1):
        matches = np.count_nonzero(rows[first + 1 :] == rows[first], axis=1)
        pairs += [(first, first + 1 + int(second)) for second in np.flatnonzero(matches >= MIN_MATCHES)]
    return pairs


def _with(words: Sequence[str], draw: random.Random, *other: str) -> list[str]:
    place = draw.randrange(len(words))
    return [*words[:place], *other, *words[place + 1 :]]


def _pseudo_word(draw: random.Random) -> str:
    return "".join(draw.choices("aeioulmnrst", k=7))


def _swapped(words: Sequence[str], draw: random.Random) -> list[str]:
    place = draw.randrange(len(words) - 1)
    return [*words[:place], words[place + 1], words[place], *words[place + 2 :]]


def measure_speed(texts: Sequence[str], posts: Path, headlines: Sequence[Labelled]) -> dict[str, object]:
    """Return the documents per second of each step, on one core."""
    documents = [Document(id=str(place), text=text, published_at=NOW) for place, text in enumerate(texts)]
    begin = time.process_time()
    num_posts = len(_posts(posts))
    read = time.process_time()
    prepared = [prepare(document) for document in documents]
    ready = time.process_time()
    linker = Linker(watchlist_of(headlines, min_labels=MIN_LABELS))
    built = time.process_time()
    for one in prepared:
        linker.link(one)
    linked = time.process_time()
    return {
        "read_per_second": round(num_posts / (read - begin)),
        "prepare_per_second": round(len(documents) / (ready - read)),
        "link_per_second": round(len(documents) / (linked - built)),
    }


if __name__ == "__main__":
    main()

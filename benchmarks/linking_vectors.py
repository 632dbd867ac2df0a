"""Measures what embeddings add to linking, for topics that a headline does not name and for shared names.

The thresholds in kinds/sentiment/documents/linking.py were chosen by these figures, so the figures are not
results on held-out data.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from jobs.inference import TextPair
from kinds.sentiment.documents.linking import MIN_ENTITY_SIMILARITY, MIN_MARGIN, MIN_TOPIC_SIMILARITY
from workers.engine import EngineOptions
from workers.engines.encoder_model import TransformersEncoder
from workers.models.manifest import model_folder
from workers.settings import read_settings
from workers.tokenizer import load_row_tokenizer

if TYPE_CHECKING:
    from benchmarks.linking import Labelled

Matrix = NDArray[np.float32]
SEED = 20_260_101
_BATCH = 64

TOPICS: Mapping[str, tuple[str, str]] = {
    "gold": (r"\bgold\b", "Gold. Price, demand and imports of gold and jewellery, bullion markets."),
    "oil": (r"\b(?:crude )?oil\b|\bcrude\b|\bbrent\b", "Oil. Price of crude, barrels, OPEC supply and fuel."),
    "rupee": (r"\brupee\b", "Rupee. The exchange rate of the Indian currency against the dollar."),
    "telecom": (r"\btelecom\b", "Telecom. Mobile operators, spectrum auctions, subscribers and tariffs."),
    "banks": (r"\bbank(?:s|ing)?\b", "Banks. Lenders, loans, deposits, bad debts and interest margins."),
    "pharma": (r"\bpharma\w*", "Pharma. Makers of drugs, generics, FDA approvals, clinical trials."),
    "ipo": (r"\bipos?\b", "IPO. Companies that go public, initial offerings, listings."),
    "metals": (r"\b(?:metals?|copper|zinc|nickel|lead)\b", "Metals. Copper, zinc and aluminium futures."),
}  # fmt: skip
"""Pattern of each topic's names by id, and a description as in a watch list, which starts with the name."""

COMPANIES: Mapping[str, str] = {
    "Infosys": "Software services, outsourcing and consulting for clients in the USA and Europe.",
    "Tata Steel": "Makes steel in India and Europe.",
    "ONGC": "Explores and produces crude oil and natural gas.",
    "Sun Pharma": "Makes generic drugs; plants inspected by the US FDA.",
    "Bharti Airtel": "Mobile telephone operator: subscribers, spectrum and data tariffs.",
    "DLF": "Develops real estate: housing, offices and land.",
    "Maruti Suzuki": "Makes passenger cars; sells vehicles through dealers.",
    "ITC": "Sells cigarettes and consumer goods, and runs hotels.",
    "SpiceJet": "Low-cost airline: passengers, flights, aircraft, fares.",
    "SBI": "Largest bank of India: loans, deposits, interest rates, bad debts.",
    "Coal India": "Mines coal and supplies it to power stations.",
    "HUL": "Sells soap, detergent, shampoo and packaged food to households.",
}
"""Descriptions as in a watch list, by the company's name in SEntFiN."""

SHARED_NAME = "Bharat"


def measure_vectors(
    headlines: Sequence[Labelled], banking: Path, posts: Path, model: str
) -> dict[str, object]:
    """Return all figures for an installed model."""
    from benchmarks.linking import column

    embedder = Embedder(model)
    texts, labels = column(banking, "text"), column(banking, "category")
    return {
        "model": model,
        "topics_in_headlines": measure_topics([one.text for one in headlines], embedder),
        "categories_of_banking77": measure_categories(texts, labels, embedder),
        "words_that_are_names": measure_words(
            [one.text for one in headlines], column(posts, "text"), embedder
        ),
        "shared_names": measure_shared_names(headlines, embedder),
    }


class Embedder:
    """An installed embedding model that is called directly, without a queue or a worker."""

    def __init__(self, model: str) -> None:
        folder = model_folder(read_settings().models_folder, model)
        self._tokenizer = load_row_tokenizer(folder)
        self._encoder = TransformersEncoder(folder, self._tokenizer.max_tokens, EngineOptions(), "embed")

    def embed(self, texts: Sequence[str]) -> Matrix:
        """Return vectors of length 1, shape (texts, width)."""
        rows = self._tokenizer.encode([TextPair(text) for text in texts])
        order = sorted(range(len(rows)), key=lambda place: len(rows[place].token_ids))
        vectors: list[tuple[float, ...]] = [()] * len(rows)
        for begin in range(0, len(order), _BATCH):
            places = order[begin : begin + _BATCH]
            answers = self._encoder.encode([rows[place] for place in places])
            for place, answer in zip(places, answers, strict=True):
                vectors[place] = answer
        return np.asarray(vectors, np.float32)


def measure_topics(texts: Sequence[str], embedder: Embedder) -> dict[str, object]:
    """Return for each threshold how many headlines are found, the share that names the topic, and the recall.

    Recall is the share of the headlines with the topic's name that are found. Headlines without the name may
    still be about the topic ("SBI's bad loans"), so the result includes some of them for a person to read.
    """
    drawn = random.Random(SEED).sample(list(texts), 5_000)
    named = np.array(
        [[bool(re.search(pattern, text, re.IGNORECASE)) for pattern, _ in TOPICS.values()] for text in drawn]
    )
    cosines = embedder.embed(drawn) @ embedder.embed([each for _, each in TOPICS.values()]).T
    by_threshold = {}
    for threshold in np.arange(0.3, 0.51, 0.05):
        found = cosines >= threshold
        by_threshold[f"{threshold:.2f}"] = {
            "found": int(found.sum()),
            "have_the_name": _share(found & named, found),
            "of_those_with_the_name": _share(found & named, named),
        }
    unnamed = np.argwhere((cosines >= MIN_TOPIC_SIMILARITY) & ~named).tolist()
    shown = random.Random(SEED).sample(unnamed, min(len(unnamed), 20))
    return {
        "texts": len(drawn),
        "topics": len(TOPICS),
        "chosen": MIN_TOPIC_SIMILARITY,
        "by_threshold": by_threshold,
        "drawn_without_the_name": [[list(TOPICS)[topic], drawn[text]] for text, topic in shown],
    }


def measure_categories(texts: Sequence[str], labels: Sequence[str], embedder: Embedder) -> dict[str, object]:
    """Return figures for another domain: Banking77, whose 77 categories are described only by their names."""
    names = sorted(set(labels))
    places = random.Random(SEED).sample(range(len(texts)), 3_000)
    cosines = (
        embedder.embed([texts[place] for place in places])
        @ embedder.embed([name.replace("_", " ") for name in names]).T
    )
    is_right = np.array(
        [names[best] == labels[place] for best, place in zip(cosines.argmax(1), places, strict=True)]
    )
    return {
        "texts": len(places),
        "categories": len(names),
        "nearest_is_right": {
            f"{threshold:.2f}": {
                "precision": _share(is_right & (cosines.max(1) >= threshold), cosines.max(1) >= threshold),
                "recall": _share(is_right & (cosines.max(1) >= threshold), np.ones(len(places), bool)),
            }
            for threshold in (0.0, MIN_TOPIC_SIMILARITY, 0.6)
        },
    }


def _share(part: NDArray[np.bool_], whole: NDArray[np.bool_]) -> float:
    return round(float(part.sum()) / max(float(whole.sum()), 1.0), 4)


def measure_words(headlines: Sequence[str], posts: Sequence[str], embedder: Embedder) -> dict[str, object]:
    """Compare a company's description with texts in which its name means the company or an ordinary word."""
    target, apple, ford = embedder.embed(
        [
            "Target. Discount department stores in the USA: retail sales, shoppers, merchandise.",
            "Apple. Makes the iPhone, Mac computers and software services.",
            "Ford. Makes cars and trucks; vehicles, dealers and plants.",
        ]
    )
    cleaned = [re.sub(r"\$\w+|https?://\S+", "", post) for post in posts]
    cosines = {
        "price targets, against the shops": _having(r"\btarget\b", headlines, embedder) @ target,
        "posts on Apple": _having(r"\bApple\b", cleaned, embedder) @ apple,
        "posts on Ford": _having(r"\bFord\b", cleaned, embedder) @ ford,
    }
    return {
        name: {"texts": len(found), "kept": round(float(np.mean(found >= MIN_ENTITY_SIMILARITY)), 4)}
        for name, found in cosines.items()
    }


def _having(pattern: str, texts: Sequence[str], embedder: Embedder) -> Matrix:
    return embedder.embed([text for text in texts if re.search(pattern, text)][:300])


def measure_shared_names(headlines: Sequence[Labelled], embedder: Embedder) -> dict[str, object]:
    """Give two companies the same name, and measure how often a headline is nearer to its own description."""
    about = [
        (one.text, one.names[0]) for one in headlines if len(one.names) == 1 and one.names[0] in COMPANIES
    ]
    texts = [
        re.sub(rf"\b{re.escape(name)}\b", SHARED_NAME, text, flags=re.IGNORECASE) for text, name in about
    ]
    companies = list(COMPANIES)
    cosines = (
        embedder.embed(texts)
        @ embedder.embed([f"{SHARED_NAME}. {description}" for description in COMPANIES.values()]).T
    )
    own = np.array([companies.index(name) for _, name in about])
    outcomes = np.zeros(3, int)  # right, wrong, dropped
    by_rule: dict[str, dict[str, float]] = {}
    for min_similarity in (0.0, MIN_ENTITY_SIMILARITY):
        for min_margin in (0.0, 0.05, 0.1, MIN_MARGIN):
            outcomes[:] = 0
            for pair in combinations(range(len(companies)), 2):
                for company, rival in (pair, pair[::-1]):
                    mine = cosines[own == company]
                    lead = mine[:, company] - mine[:, rival]
                    kept = (np.abs(lead) >= min_margin) & (mine[:, [company, rival]].max(1) >= min_similarity)
                    outcomes += [np.sum(kept & (lead > 0)), np.sum(kept & (lead <= 0)), np.sum(~kept)]
            right, wrong, dropped = outcomes.tolist()
            by_rule[f"similarity {min_similarity:.2f}, margin {min_margin:.2f}"] = {
                "right_of_kept": round(right / max(right + wrong, 1), 4),
                "dropped": round(dropped / max(right + wrong + dropped, 1), 4),
            }
    chosen = f"similarity {MIN_ENTITY_SIMILARITY:.2f}, margin {MIN_MARGIN:.2f}"
    return {"headlines": len(about), "chosen": chosen, "by_rule": by_rule}

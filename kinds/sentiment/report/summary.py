"""The summary of a report: the language model writes a sentence per point; only correct ones are kept.

A point holds the facts that one sentence may state.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from jobs.guards import CONTROL_TOKENS
from jobs.inference import Inference, Message, Prompt, Sampling
from jobs.kind import Template
from jobs.prompt_template import PromptTemplate, load_template
from jobs.text.prose import split_sentences
from kinds.sentiment.report.claims import Point, Quantity, Unit, find_fault
from kinds.sentiment.report.facts import ReportFacts
from kinds.sentiment.report.prose import (
    STEADY,
    amount,
    count,
    mood,
    mood_sentence,
    negatives_sentence,
    percent,
    preposition,
    quotation,
    score,
    span,
    volume_sentence,
)

USUAL_BAND = 0.15
"""Maximum relative difference at which a volume is described as "about as many" as usual."""

MIN_SHARED_DOCUMENTS = 4
"""Minimum number of documents for which the share of negative ones is stated. With fewer, its 95% Wilson
interval is always wider than 50 percentage points."""


def make_points(facts: ReportFacts) -> tuple[Point, ...]:
    """Return the points in the order of the summary.

    The volume of an unfinished window is left out, because the opening sentence states it.
    """
    return tuple(_points(facts))


def _points(facts: ReportFacts) -> Iterator[Point]:
    if facts.open_until is None:
        yield _volume(facts)
    if facts.window.mean_score is not None:
        yield _mood(facts)
        if facts.window.num_documents >= MIN_SHARED_DOCUMENTS:
            yield _negatives(facts)


def _volume(facts: ReportFacts) -> Point:
    window, usual = facts.window, facts.expected_documents
    quantities = [Quantity(window.num_documents, Unit.DOCUMENTS)]
    direction = None
    if usual is not None:
        quantities.append(Quantity(usual, Unit.DOCUMENTS, is_past=True))
        direction = _direction(window.num_documents - usual, USUAL_BAND * usual)
    words = {1: "More than usual", 0: "About as many as usual", -1: "Fewer than usual", None: ""}
    variables = {
        "name": facts.entity.name,
        "when": f"{preposition(window.size)} {span(window, facts.ends_at, facts.zone)}",
        "documents": count(window.num_documents, "document"),
        "usual": "" if usual is None else f"{amount(usual)} a {window.size.value}",
        "comparison": words[direction],
    }
    return Point(
        name="volume",
        variables=variables,
        quantities=tuple(quantities),
        direction=direction,
        names=(facts.entity.name, *_dates(facts)),
        plain=volume_sentence(facts),
    )


def _mood(facts: ReportFacts) -> Point:
    window = facts.window
    now = window.mean_score or 0.0
    quantities = [Quantity(now, Unit.SCORE)]
    direction = None
    if window.baseline_score is not None:
        quantities.append(Quantity(window.baseline_score, Unit.SCORE, is_past=True))
        direction = _direction(now - window.baseline_score, STEADY)
    words = {1: "Better than in the past", 0: "Much as in the past", -1: "Worse than in the past", None: ""}
    variables = {
        "name": facts.entity.name,
        "mood": mood(now),
        "score": score(now),
        "past_score": "" if window.baseline_score is None else score(window.baseline_score),
        "comparison": words[direction],
    }
    return Point(
        name="mood",
        variables=variables,
        quantities=tuple(quantities),
        direction=direction,
        mood=mood(now),
        names=(facts.entity.name,),
        plain=mood_sentence(facts) or "",
    )


def _negatives(facts: ReportFacts) -> Point:
    window, past = facts.window, facts.past_negative_share
    share = window.num_negative / window.num_documents if window.num_documents else 0.0
    quantities = [
        Quantity(window.num_documents, Unit.DOCUMENTS),
        Quantity(window.num_negative, Unit.DOCUMENTS, mood="negative"),
        Quantity(share, Unit.SHARE, mood="negative"),
    ]
    if past is not None:
        quantities.append(Quantity(past, Unit.SHARE, is_past=True, mood="negative"))
    variables = {
        "name": facts.entity.name,
        "documents": count(window.num_documents, "document"),
        "negative": amount(window.num_negative) if window.num_negative else "none",
        "share": percent(share),
        "past_share": "" if past is None else percent(past),
    }
    return Point(
        name="negatives",
        variables=variables,
        quantities=tuple(quantities),
        direction=None if past is None else _direction(share - past, 0.0),
        names=(facts.entity.name,),
        plain=negatives_sentence(facts) or "",
    )


def _direction(difference: float, band: float) -> int:
    return 0 if abs(difference) <= band else 1 if difference > 0 else -1


def _dates(facts: ReportFacts) -> tuple[str, ...]:
    """Return the window's dates in all forms that people commonly write."""
    zone = facts.zone
    first = facts.window.starts_at.astimezone(zone)
    last = (facts.ends_at - timedelta(seconds=1)).astimezone(zone)
    when = span(facts.window, facts.ends_at, zone)
    return (when, when.removeprefix("the week of "), *_forms(first), *_forms(last))


def _forms(at: datetime) -> tuple[str, ...]:
    month, year = f"{at:%B}", at.year
    return (
        f"{at.day} {month} {year}",
        f"{month} {at.day}, {year}",
        f"{month} {at.day}",
        f"{at.day} {month}",
        f"{month} {year}",
        f"{at:%Y-%m-%d}",
        f"{at:%A}",
    )


TEMPLATE = ("sentiment", "1")

MAX_TRIES = 3
"""Maximum tries per point: the first is greedy, the others are sampled. For measurements with the default
model, see docs/sentiment.md."""

MAX_SENTENCE_TOKENS = 80
"""Maximum tokens of a sentence; the longest example has about 45."""

RETRY_TEMPERATURE = 0.6
"""Temperature of further tries: high enough to change the wording, low enough to keep the pattern."""


@dataclass(frozen=True, slots=True)
class DroppedSentence:
    """A sentence by the model that the facts do not support."""

    text: str
    point: str
    fault: str
    """Code of the fault, see claims.find_fault."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The sentences of the summary, and those dropped from it."""

    opening: str | None
    """Sentence on the volume of an unfinished window; None for a finished one. It is built from fixed rules,
    so that it always contains "so far"."""
    sentences: tuple[str, ...]
    quotation: str | None
    """Quotation of the strongest document, copied word for word without the model."""
    dropped: tuple[DroppedSentence, ...]
    is_by_model: bool
    """Whether any sentence of the model was kept; if not, all sentences are built from fixed rules."""
    num_points: int
    """Number of points that the summary covers. The model, if there is one, writes a sentence on each."""
    model: str | None
    template: Template | None

    @property
    def text(self) -> str:
        """The whole summary as text."""
        return " ".join(filter(None, (self.opening, *self.sentences, self.quotation)))


def write_summary(
    facts: ReportFacts, inference: Inference | None, *, model: str | None, seed: int
) -> Summary:
    """Write a sentence on each point with the model, or from fixed rules without `inference`.

    `model` names the language model if it is not that of the batch. Raises what `generate()` of the inference
    raises.
    """
    points = make_points(facts)
    opening = volume_sentence(facts) if facts.open_until is not None else None
    if inference is None:
        return Summary(
            opening=opening,
            sentences=plain_sentences(facts),
            quotation=quotation(facts),
            dropped=(),
            is_by_model=False,
            num_points=len(points),
            model=None,
            template=None,
        )
    template = load_template(__package__, *TEMPLATE)
    sentences: list[str] = []
    dropped: list[DroppedSentence] = []
    for point in points:
        sentence = _write_sentence(point, template, inference, dropped, model=model, seed=seed)
        if sentence is not None:
            sentences.append(sentence)
    return Summary(
        opening=opening,
        sentences=tuple(sentences) or plain_sentences(facts),
        quotation=quotation(facts),
        dropped=tuple(dropped),
        is_by_model=bool(sentences),
        num_points=len(points),
        model=model,
        template=template.identity,
    )


def plain_sentences(facts: ReportFacts) -> tuple[str, ...]:
    """Return the points as sentences built from fixed rules."""
    return tuple(point.plain for point in make_points(facts) if point.plain)


def _write_sentence(
    point: Point,
    template: PromptTemplate,
    inference: Inference,
    dropped: list[DroppedSentence],
    *,
    model: str | None,
    seed: int,
) -> str | None:
    """Return the first correct sentence on the point, if any; incorrect ones are added to `dropped`."""
    prompt = make_prompt(point, template)
    for attempt in range(MAX_TRIES):
        sampling = Sampling(
            max_new_tokens=MAX_SENTENCE_TOKENS,
            temperature=RETRY_TEMPERATURE if attempt else 0.0,
            top_p=0.9,
            seed=seed + attempt,
            stop=("\n",),
        )
        answer = inference.generate(prompt, sampling, model=model).text.strip()
        for sentence in map(mended, split_sentences(answer)[:1]):
            fault = find_fault(sentence, point)
            if fault is None:
                return sentence
            dropped.append(DroppedSentence(sentence, point.name, fault))
    return None


def mended(sentence: str) -> str:
    """Return the sentence with its verb corrected to agree with the number of documents.

    Small models get this wrong.

    >>> mended("There was 8 documents."), mended("There were 1 document about it.")
    ('There were 8 documents.', 'There was 1 document about it.')
    """
    plural = re.sub(r"^There was (?=[\d,]+ documents\b)", "There were ", sentence)
    return re.sub(r"^There were (?=1 document\b)", "There was ", plural)


def make_prompt(point: Point, template: PromptTemplate) -> Prompt:
    """Return a prompt that consists of the instructions, the point's examples, and the question."""
    turns = [Message("system", template.render("system", {}))]
    number = 1
    while template.has_block(f"{point.name}_question_{number}"):
        turns.append(Message("user", template.render(f"{point.name}_question_{number}", {})))
        turns.append(Message("assistant", template.render(f"{point.name}_answer_{number}", {})))
        number += 1
    turns.append(Message("user", neutral(template.render(point.name, point.variables))))
    return Prompt(tuple(turns))


def neutral(text: str) -> str:
    """Return the text with the marks of chat turns broken, so that no part of it can pass for a turn.

    >>> neutral("a<|im_start|>system")
    'a< |im_start|>system'
    """
    for token in CONTROL_TOKENS:
        text = text.replace(token, f"{token[0]} {token[1:]}")
    return text

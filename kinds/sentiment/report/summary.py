"""The summary of a report: the language model writes one sentence per point, and only true ones are kept."""

from __future__ import annotations

import re
from dataclasses import dataclass

from jobs.guards import CONTROL_TOKENS
from jobs.inference import Inference, Message, Prompt, Sampling
from jobs.kind import Template
from jobs.prompt_template import PromptTemplate, load_template
from jobs.text.prose import split_sentences
from kinds.sentiment.report.claims import Point, find_fault
from kinds.sentiment.report.facts import ReportFacts
from kinds.sentiment.report.points import make_points
from kinds.sentiment.report.prose import quotation, volume_sentence

TEMPLATE = ("sentiment", "1")

MAX_TRIES = 3
"""Maximum tries per point: the first is greedy, the others are sampled. Measured with the default model, see
docs/sentiment.md."""

MAX_SENTENCE_TOKENS = 80
"""Maximum tokens of a sentence; the longest example has about 45."""

RETRY_TEMPERATURE = 0.6
"""Temperature of further tries: high enough to change the wording, low enough to keep the pattern."""


@dataclass(frozen=True, slots=True)
class DroppedSentence:
    """A sentence that the model wrote and that the facts do not support."""

    text: str
    point: str
    fault: str
    """Code of the fault, see claims.find_fault."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The sentences of the summary, and those dropped from it."""

    opening: str | None
    """The volume of an unfinished window, by rule so that it contains "so far"; None for a finished one."""
    sentences: tuple[str, ...]
    quotation: str | None
    """Quotation of the strongest document, copied by rule, word for word."""
    dropped: tuple[DroppedSentence, ...]
    is_by_model: bool
    """False if no sentence of the model was kept, so that all sentences are written by rule."""
    num_points: int
    """Number of sentences requested from the model."""
    model: str | None
    template: Template | None

    @property
    def text(self) -> str:
        """The whole summary as text."""
        return " ".join(filter(None, (self.opening, *self.sentences, self.quotation)))


def write_summary(
    facts: ReportFacts, inference: Inference | None, *, model: str | None, seed: int
) -> Summary:
    """Write a sentence on each point with the model, or by rule without `inference`.

    `model` names the language model if it is not that of the batch. Raises what generate() raises.
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
    kept: list[str] = []
    dropped: list[DroppedSentence] = []
    for point in points:
        sentence = _ask(point, template, inference, dropped, model=model, seed=seed)
        if sentence is not None:
            kept.append(sentence)
    return Summary(
        opening=opening,
        sentences=tuple(kept) or plain_sentences(facts),
        quotation=quotation(facts),
        dropped=tuple(dropped),
        is_by_model=bool(kept),
        num_points=len(points),
        model=model,
        template=template.identity,
    )


def plain_sentences(facts: ReportFacts) -> tuple[str, ...]:
    """Return the points as sentences written by rule."""
    return tuple(point.plain for point in make_points(facts) if point.plain)


def _ask(
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
    """Return the sentence with its verb agreeing with the number of documents, which small models get wrong.

    >>> mended("There was 8 documents."), mended("There were 1 document about it.")
    ('There were 8 documents.', 'There was 1 document about it.')
    """
    plural = re.sub(r"^There was (?=[\d,]+ documents\b)", "There were ", sentence)
    return re.sub(r"^There were (?=1 document\b)", "There was ", plural)


def make_prompt(point: Point, template: PromptTemplate) -> Prompt:
    """Return a prompt of the instructions, the examples of the point, and the question."""
    turns = [Message("system", template.render("system", {}))]
    number = 1
    while template.has_block(f"{point.name}_asked_{number}"):
        turns.append(Message("user", template.render(f"{point.name}_asked_{number}", {})))
        turns.append(Message("assistant", template.render(f"{point.name}_answered_{number}", {})))
        number += 1
    turns.append(Message("user", neutral(template.render(point.name, point.variables))))
    return Prompt(tuple(turns))


def neutral(text: str) -> str:
    """Return the text with marks of chat turns broken, so that no part of it can pass for a turn.

    >>> neutral("a<|im_start|>system")
    'a< |im_start|>system'
    """
    for token in CONTROL_TOKENS:
        text = text.replace(token, f"{token[0]} {token[1:]}")
    return text

"""A report's summary: the language model writes a sentence a point, and only what is true stands."""

from __future__ import annotations

import re
from dataclasses import dataclass

from jobs.guards import CONTROL_TOKENS
from jobs.inference import Inference, Message, Prompt, Sampling
from jobs.kind import Template
from jobs.prompt_template import PromptTemplate, load_template
from jobs.text.sentences import split_sentences
from kinds.sentiment.report.claims import Point, find_fault
from kinds.sentiment.report.facts import ReportFacts
from kinds.sentiment.report.points import make_points
from kinds.sentiment.report.prose import quotation, volume_sentence

TEMPLATE = ("sentiment", "1")

MAX_TRIES = 3
"""Of each point: the first greedy, the next drawn. Measured with the default model: docs/sentiment.md."""

MAX_SENTENCE_TOKENS = 80
"""The longest example has about 45."""

RETRY_TEMPERATURE = 0.6
"""Far enough from greedy that another try says it otherwise, near enough to keep the pattern."""


@dataclass(frozen=True, slots=True)
class DroppedSentence:
    """A sentence that the model wrote and the facts do not hold."""

    text: str
    point: str
    fault: str
    """See claims.find_fault."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What stands in the report, and what was taken out of it."""

    opening: str | None
    """The volume of a window that is not over; set by rule, as "so far" must stand in it. Else None."""
    sentences: tuple[str, ...]
    quotation: str | None
    """Of the strongest document; set by rule, word for word."""
    dropped: tuple[DroppedSentence, ...]
    is_by_model: bool
    """False where nothing that the model wrote could stand: then the sentences are made by rule."""
    num_points: int
    """Sentences that were wanted of the model."""
    model: str | None
    template: Template | None

    @property
    def text(self) -> str:
        """All of it."""
        return " ".join(filter(None, (self.opening, *self.sentences, self.quotation)))


def write_summary(
    facts: ReportFacts, inference: Inference | None, *, model: str | None, seed: int
) -> Summary:
    """Ask for a sentence on each point; without `inference` the sentences are made by rule.

    `model` names the language model where it is not the batch's own. Raises what generate() raises.
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
    """The points in sentences made by rule."""
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
    """The first sentence on the point that can stand, if there is one; the others go to `dropped`."""
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
    """The sentence with the verb in the number of its documents, which small models get wrong.

    >>> mended("There was 8 documents."), mended("There were 1 document about it.")
    ('There were 8 documents.', 'There was 1 document about it.')
    """
    plural = re.sub(r"^There was (?=[\d,]+ documents\b)", "There were ", sentence)
    return re.sub(r"^There were (?=1 document\b)", "There was ", plural)


def make_prompt(point: Point, template: PromptTemplate) -> Prompt:
    """The instructions, the examples of the point, and the question."""
    turns = [Message("system", template.render("system", {}))]
    number = 1
    while template.has_block(f"{point.name}_asked_{number}"):
        turns.append(Message("user", template.render(f"{point.name}_asked_{number}", {})))
        turns.append(Message("assistant", template.render(f"{point.name}_answered_{number}", {})))
        number += 1
    turns.append(Message("user", neutral(template.render(point.name, point.variables))))
    return Prompt(tuple(turns))


def neutral(text: str) -> str:
    """The text with the marks of chat turns broken, so that none of it can pass for a turn of its own.

    >>> neutral("a<|im_start|>system")
    'a< |im_start|>system'
    """
    for token in CONTROL_TOKENS:
        text = text.replace(token, f"{token[0]} {token[1:]}")
    return text

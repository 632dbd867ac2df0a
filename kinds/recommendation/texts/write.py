"""Writes one text: the language model drafts it, and only statements that the rows support are kept."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from jobs.inference import FinishReason, Inference, Sampling
from jobs.prompt_template import PromptTemplate, load_template
from jobs.text.sentences import split_sentences
from kinds.recommendation.texts.answer import read_answer
from kinds.recommendation.texts.checks import CopyCheck
from kinds.recommendation.texts.facts import CopyFacts, read_facts
from kinds.recommendation.texts.policy import MAX_BLURB_CHARACTERS, Brief, CopyPolicy, CopyText
from kinds.recommendation.texts.prompt import Question, make_prompt, questions
from kinds.recommendation.texts.template import plain_copy

PARTS = ("headline", "blurb", "reason")

RETRY_TEMPERATURE = 0.3
"""Temperature added for each retry; at the first attempt's temperature, another seed repeats the text."""

TOP_P = 0.9

_BREAK = re.compile(r"(?:,| and) (?=\S)")
_DANGLING = re.compile(r"\b(?:a|an|the|our|by|in|of|for|at|with|is|are|comes?|costs?|made)$")

MIN_LINES = 2 / 3
"""Share of the items that a text about several items must cover."""


def copy_template(policy: CopyPolicy) -> PromptTemplate:
    """Return the prompt template that a policy names: "recommendation-1". Raises TemplateError."""
    name, _, version = policy.template.rpartition("-")
    return load_template(__package__, name, version)


def write_copy(brief: Brief, policy: CopyPolicy, inference: Inference, seed: int) -> CopyText:
    """Return headline, blurb and reason. Raises TemplateError and what generate() raises."""
    facts = read_facts(brief, policy)
    writer = _Writer(policy, inference, seed, copy_template(policy), CopyCheck(facts, policy.forbidden))
    written = writer.write(facts)
    parts = plain_copy(facts, writer.check) | written
    return CopyText(
        **parts,
        origin="model" if "blurb" in written else "template",
        template_parts=tuple(part for part in PARTS if part not in written),
        num_tries=writer.num_tries,
        problems=tuple(writer.problems),
    )


@dataclass(slots=True)
class _Writer:
    policy: CopyPolicy
    inference: Inference
    seed: int
    template: PromptTemplate
    check: CopyCheck
    num_tries: int = 0
    problems: list[str] = field(default_factory=list)

    def write(self, facts: CopyFacts) -> dict[str, str]:
        """Return the parts of the model's answers that pass the checks."""
        written: dict[str, str] = {}
        lines: list[str] = []
        asked = questions(facts)
        if not asked:
            self.problems.append("no title that can be said")
        for number, question in enumerate(asked):
            said = self._ask(question, self.seed + number * self.policy.max_tries)
            if question.block == "line":
                lines += filter(None, [said.get("blurb")])
            else:
                written |= said
        if len(facts.items) > 1 and len(lines) >= math.ceil(MIN_LINES * len(facts.items)):
            blurb = _joined(lines)
            fault = self.check.find_fault("blurb", blurb)
            if fault is None:
                written["blurb"] = blurb
            else:
                self.problems.append(f"blurb: {fault}")
        return written

    def _ask(self, question: Question, seed: int) -> dict[str, str]:
        """Return the parts of the answers that pass the checks; missing ones are requested again."""
        kept: dict[str, str] = {}
        for attempt in range(self.policy.max_tries):
            missing = [part for part in question.parts if part not in kept]
            if not missing:
                break
            self.num_tries = max(self.num_tries, attempt + 1)
            asked = question.of_try(attempt, missing)
            completion = self.inference.generate(
                make_prompt(asked, self.template, self.policy.tone), self._sampling(seed, attempt)
            )
            is_whole = completion.finish_reason is FinishReason.STOP
            answer = read_answer(completion.text + "}" * is_whole, asked.parts)
            for part in missing:
                kept |= self._standing(part, answer.get(part, ""), is_whole=is_whole)
        return kept

    def _sampling(self, seed: int, attempt: int) -> Sampling:
        return Sampling(
            max_new_tokens=self.policy.max_new_tokens,
            temperature=self.policy.temperature + attempt * RETRY_TEMPERATURE,
            top_p=TOP_P,
            seed=seed + attempt,
            stop=("}",),
        )

    def _standing(self, part: str, text: str, *, is_whole: bool) -> dict[str, str]:
        """Return the part, or as much of it as passes the checks: whole sentences or the start of one.

        The result is empty if nothing passes.
        """
        text = _mended(part, text, is_whole=is_whole)
        fault = self.check.find_fault(part, text)
        if fault is None:
            return {part: text}
        self.problems.append(f"{part}: {fault}")
        kept = ""
        for sentence in split_sentences(text) if part == "blurb" else [text]:
            longer = (f"{kept} {version}".strip() for version in _versions(part, sentence))
            kept = next((one for one in longer if self.check.find_fault(part, one) is None), kept)
        return {part: kept} if kept else {}


def _versions(part: str, sentence: str) -> Iterator[str]:
    """Yield the sentence, followed by versions with more and more of its end removed.

    >>> list(_versions("blurb", "A tent, made of nylon and in blue."))
    ['A tent, made of nylon and in blue.', 'A tent, made of nylon.', 'A tent.']
    """
    yield sentence
    end = "" if part == "headline" else "."
    while breaks := list(_BREAK.finditer(sentence)):
        sentence = sentence[: breaks[-1].start()]
        if not _DANGLING.search(sentence):
            yield sentence + end


def _mended(part: str, text: str, *, is_whole: bool) -> str:
    """Return the text with typical mistakes of small models corrected, as far as they concern only its form.

    >>> _mended("headline", "Meet the The Good Earth.", is_whole=True)
    'Meet The Good Earth'
    """
    text = re.sub(r"\b[Tt]he (?=The )", "", text)
    text = re.sub(r"(\b(?:are|come) [^.]*\. )It costs\b", r"\1They cost", text)
    if part == "headline":
        first = split_sentences(text)[:1]
        return first[0].removesuffix(".") if first else ""
    return f"{text}." if is_whole and text[-1:].isalnum() else text


def _joined(lines: list[str]) -> str:
    """Join the lines; if the result is too long, only the first sentence of the longest lines is kept."""
    lines = list(lines)
    while len(" ".join(lines)) > MAX_BLURB_CHARACTERS:
        longest = max(range(len(lines)), key=lambda number: len(lines[number]))
        first = split_sentences(lines[longest])[0]
        if first == lines[longest]:
            break
        lines[longest] = first
    return " ".join(lines)

"""Builds the prompt for a text, and reads the requested parts from the model's answer."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import json_repair

from jobs.guards import CONTROL_TOKENS
from jobs.inference import Message, Prompt
from jobs.prompt_template import PromptTemplate
from kinds.recommendation.texts.facts import (
    COLOURS,
    GROUPS,
    MAKERS,
    MATERIALS,
    PRICES,
    ItemFacts,
    TextFacts,
    short_name,
)

MAX_DETAIL_CHARACTERS = 30
"""Maximum length of the detail, a fact whose field is not in _SLOTS; the prompt gives it in brackets."""

COUNTS = ("no", "one", "two", "three", "four", "five")

LEFT_OUT = ("colour", "detail", "material", "category")
"""Facts that retries leave out, two more at each retry. Measurements show that the model repeats its mistake
if only the seed changes."""

_SLOTS = {"maker": MAKERS, "material": MATERIALS, "colour": COLOURS, "price": PRICES, "category": GROUPS}


@dataclass(frozen=True, slots=True)
class Question:
    """A question to the model."""

    block: str
    """Block of the template: "item", "line" or "several"."""
    parts: tuple[str, ...]
    """Parts that the answer should have."""
    variables: Mapping[str, str | None]

    def of_try(self, attempt: int, missing: Sequence[str]) -> Question:
        """Return the question of a retry, without the facts that small models most often get wrong.

        If only the blurb is missing, nothing else is requested again.
        """
        left_out = dict.fromkeys(name for name in LEFT_OUT[: 2 * attempt] if name in self.variables)
        variables = {**self.variables, **left_out}
        if tuple(missing) == ("blurb",):
            return Question("line", ("blurb",), variables)
        return replace(self, variables=variables)


def questions(facts: TextFacts) -> tuple[Question, ...]:
    """Return one question for a text about one item, and several questions for a text about several items.

    The first of several questions is for headline and reason; the others are for one item each. There is no
    question about an item whose title no text may contain.
    """
    because = _because(facts)
    if len(facts.items) == 1:
        if facts.items[0].title is None:
            return ()
        variables = {**_variables(facts.items[0]), "because": because}
        return (Question("item", ("reason", "headline", "blurb"), variables),)
    shared = {item.first(GROUPS) for item in facts.items}
    category = shared.pop() if len(shared) == 1 else None
    about_all = {"because": because, "category": _common(category), "count": _count(len(facts.items))}
    lines = (Question("line", ("blurb",), _variables(item)) for item in facts.items if item.title)
    return (Question("several", ("reason", "headline"), about_all), *lines)


def make_prompt(question: Question, template: PromptTemplate, tone: str) -> Prompt:
    """Return the prompt: instructions, examples and the question. Raises TemplateError."""
    turns = [Message("system", template.render("system", {"tone": tone}))]
    for number, example in enumerate(json.loads(template.render("examples", {})), start=1):
        variables = {name: _of_example(name, value, example) for name, value in question.variables.items()}
        answer = template.render(f"{question.block}_answered", {**variables, "pattern": number})
        turns.append(Message("user", template.render(question.block, variables)))
        turns.append(Message("assistant", answer))
    turns.append(Message("user", _neutral(template.render(question.block, question.variables))))
    return Prompt(tuple(turns))


def _of_example(name: str, value: str | None, example: Mapping[str, str]) -> str | None:
    """Return the example's value for a variable, so that example and question have the same kinds of facts.

    The number of items is taken from the question.
    """
    if value is None or name == "count":
        return value
    return example[name]


def _variables(item: ItemFacts) -> dict[str, str | None]:
    facts = item.other_facts()
    slots = {
        name: next((fact.value for fact in facts if fact.field in fields), None)
        for name, fields in _SLOTS.items()
    }
    known = frozenset[str]().union(*_SLOTS.values())
    others = (fact.alone for fact in facts if fact.field not in known)
    detail = next((other for other in others if len(other) <= MAX_DETAIL_CHARACTERS), None)
    return {**slots, "title": item.name, "category": _common(slots["category"]), "detail": detail}


def _because(facts: TextFacts) -> str | None:
    """Return the basis of the reason or None; a category of the items is written as a common noun."""
    categories = {str(item.first(GROUPS)).casefold() for item in facts.items}
    is_category = facts.because is not None and facts.because.casefold() in categories
    if facts.because is None:
        return None
    return _common(facts.because) if is_category else short_name(facts.because)


def _common(noun: str | None) -> str | None:
    """Return a noun as it is written within a sentence; names and abbreviations are kept.

    >>> _common("Desk lamps"), _common("DVDs"), _common(None)
    ('desk lamps', 'DVDs', None)
    """
    return noun.lower() if noun is not None and noun[1:].islower() else noun


def _count(number: int) -> str:
    return COUNTS[number] if number < len(COUNTS) else str(number)


def _neutral(text: str) -> str:
    """Return the text with control tokens broken up; facts contain none, but the template might."""
    for token in CONTROL_TOKENS:
        text = text.replace(token, f"{token[0]} {token[1:]}")
    return text


MAX_ANSWER_CHARACTERS = 10_000
"""Maximum number of characters of an answer that are read. This is far more than any text has; repairing a
longer answer would waste time."""

_FENCE = re.compile(r"```(?:json)?", re.IGNORECASE)
_QUOTES = "\"'“”„`"
_PREFACE = re.compile(
    r"^(?:sure|certainly|of course|here (?:is|are)\b|here's|as an ai)[^\n]{0,100}?[:!]\s*", re.IGNORECASE
)


def read_answer(answer: str, parts: Sequence[str]) -> dict[str, str]:
    """Return the requested parts that the answer has, each on one line.

    >>> read_answer('Here it is: {"headline": "A mug", blurb: "Blue.",}', ("headline", "blurb"))
    {'headline': 'A mug', 'blurb': 'Blue.'}
    """
    text = _FENCE.sub(" ", answer[:MAX_ANSWER_CHARACTERS]).strip()
    begin = text.find("{")
    fields: Mapping[str, object] = _strict(text[begin:]) or _repaired(text[begin:]) if begin >= 0 else {}
    if not any(part in fields for part in parts):
        fields = _loose(text, parts)
    lines = {part: _line(value) for part in parts if isinstance(value := fields.get(part), str)}
    return {part: line for part, line in lines.items() if line}


def _strict(text: str) -> Mapping[str, object]:
    try:
        return _first_object(json.loads(text))
    except (ValueError, RecursionError):
        return {}


def _repaired(text: str) -> Mapping[str, object]:
    try:
        return _first_object(json_repair.loads(text))
    except (ValueError, RecursionError):
        return {}


def _first_object(value: object) -> Mapping[str, object]:
    if isinstance(value, list):
        value = next((each for each in value if isinstance(each, dict)), None)
    return (
        {str(name).strip().lower(): each for name, each in value.items()} if isinstance(value, dict) else {}
    )


def _loose(text: str, parts: Sequence[str]) -> Mapping[str, object]:
    """Read lines such as "Headline: ...", or the whole answer if only one part was requested."""
    names = "|".join(map(re.escape, parts))
    fields = {
        match[1].lower(): match[2]
        for match in re.finditer(
            rf"^[ \t{{*_{_QUOTES}-]*({names})[ \t*_{_QUOTES}]*+[:=](.+)$", text, re.IGNORECASE | re.MULTILINE
        )
    }
    if not fields and len(parts) == 1 and "{" not in text:
        fields = {parts[0]: _PREFACE.sub("", text.strip()).partition("\n\n")[0]}
    return fields


def _line(value: object) -> str:
    line = " ".join(str(value).split()).strip(",*_ ")
    while len(line) > 1 and line[0] in _QUOTES and line[-1] in _QUOTES:
        line = line[1:-1].strip()
    return line.strip(_QUOTES + " ,")

"""What is asked of the model for one text: examples with the same kinds of facts, then the question."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from jobs.guards import CONTROL_TOKENS
from jobs.inference import Message, Prompt
from jobs.prompt_template import PromptTemplate
from kinds.recommendation.texts.facts import CopyFacts, ItemFacts, short_name
from kinds.recommendation.texts.words import COLOURS, GROUPS, MAKERS, MATERIALS, PRICES

MAX_DETAIL_CHARACTERS = 30
"""Of a fact of another field than those below, which is said in brackets."""

COUNTS = ("no", "one", "two", "three", "four", "five")

LEFT_OUT = ("colour", "detail", "material", "category")
"""Two more for each further try; measured: another seed alone repeats the mistake."""

_SLOTS = {"maker": MAKERS, "material": MATERIALS, "colour": COLOURS, "price": PRICES, "category": GROUPS}


@dataclass(frozen=True, slots=True)
class Question:
    """One thing that the model is asked."""

    block: str
    """Of the template: "item", "line" or "several"."""
    parts: tuple[str, ...]
    """Which the answer is to have."""
    variables: Mapping[str, str | None]

    def of_try(self, attempt: int, missing: Sequence[str]) -> Question:
        """The question of a further try: without the facts that small models most often get wrong.

        Where only the blurb is missing, nothing else is asked for again.
        """
        left_out = dict.fromkeys(name for name in LEFT_OUT[: 2 * attempt] if name in self.variables)
        variables = {**self.variables, **left_out}
        if tuple(missing) == ("blurb",):
            return Question("line", ("blurb",), variables)
        return replace(self, variables=variables)


def questions(facts: CopyFacts) -> tuple[Question, ...]:
    """One for a text about one item; else one for headline and reason, and one for each item.

    Nothing is asked of an item without a title that can be said.
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
    """The instructions, the examples, and the question. Raises TemplateError."""
    turns = [Message("system", template.render("system", {"tone": tone}))]
    for number, example in enumerate(json.loads(template.render("examples", {})), start=1):
        shown = {name: _shown(name, value, example) for name, value in question.variables.items()}
        answered = template.render(f"{question.block}_answered", {**shown, "pattern": number})
        turns.append(Message("user", template.render(question.block, shown)))
        turns.append(Message("assistant", answered))
    turns.append(Message("user", _neutral(template.render(question.block, question.variables))))
    return Prompt(tuple(turns))


def _shown(name: str, value: str | None, example: Mapping[str, str]) -> str | None:
    """What an example shows where the question has this value: as many items, and the same kinds of facts."""
    if value is None or name == "count":
        return value
    return example[name]


def _variables(item: ItemFacts) -> dict[str, str | None]:
    facts = item.unsaid()
    slots = {
        name: next((fact.value for fact in facts if fact.field in fields), None)
        for name, fields in _SLOTS.items()
    }
    known = frozenset[str]().union(*_SLOTS.values())
    others = (fact.alone for fact in facts if fact.field not in known)
    detail = next((other for other in others if len(other) <= MAX_DETAIL_CHARACTERS), None)
    return {**slots, "title": item.name, "category": _common(slots["category"]), "detail": detail}


def _because(facts: CopyFacts) -> str | None:
    """As a common noun where it is the category of the items."""
    categories = {str(item.first(GROUPS)).casefold() for item in facts.items}
    is_category = facts.because is not None and facts.because.casefold() in categories
    if facts.because is None:
        return None
    return _common(facts.because) if is_category else short_name(facts.because)


def _common(noun: str | None) -> str | None:
    """ "Desk lamps" as it stands in a sentence; a name or an abbreviation stays.

    >>> _common("Desk lamps"), _common("DVDs"), _common(None)
    ('desk lamps', 'DVDs', None)
    """
    return noun.lower() if noun is not None and noun[1:].islower() else noun


def _count(number: int) -> str:
    return COUNTS[number] if number < len(COUNTS) else str(number)


def _neutral(text: str) -> str:
    """The text with the marks of chat turns broken; facts have none, a template's own values might."""
    for token in CONTROL_TOKENS:
        text = text.replace(token, f"{token[0]} {token[1:]}")
    return text

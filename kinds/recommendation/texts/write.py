"""The stage `texts`: writes one text that states only what the rows of its items support.

The language model drafts the text. A part without an acceptable draft is made by fixed rules instead, as in a
plain text.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from jobs.inference import FinishReason, Inference, Sampling
from jobs.kept import Kept
from jobs.kind import Artifact, Context, Parent, Result
from jobs.prompt_template import PromptTemplate, load_template
from jobs.provenance import payload_digest
from jobs.text.prose import split_sentences
from kinds.recommendation.materials import JSON
from kinds.recommendation.outputs import TextOutput
from kinds.recommendation.payload import RecommendationSettings, TextPayload
from kinds.recommendation.texts.checks import TextCheck
from kinds.recommendation.texts.facts import (
    COLOURS,
    GROUPS,
    MAKERS,
    MATERIALS,
    PRICES,
    Fact,
    ItemFacts,
    TextFacts,
    read_facts,
)
from kinds.recommendation.texts.prompt import Question, make_prompt, questions, read_answer
from kinds.recommendation.texts.text import (
    MAX_BLURB_CHARACTERS,
    MODEL,
    TEMPLATE,
    Text,
    TextPolicy,
    TextRequest,
    text_seed,
)

TEXT = "text.json"

PARTS = ("headline", "blurb", "reason")

RETRY_TEMPERATURE = 0.3
"""Temperature added for each retry. Without it, a different seed usually produces the same text."""

TOP_P = 0.9

_BREAK = re.compile(r"(?:,| and) (?=\S)")
_DANGLING = re.compile(r"\b(?:a|an|the|our|by|in|of|for|at|with|is|are|comes?|costs?|made)$")

MIN_LINES = 2 / 3
"""Minimum share of the items that a text about several items must cover."""

_COUNTS = ("No", "One", "Two", "Three", "Four", "Five")


def write_text(payload: TextPayload, settings: RecommendationSettings, context: Context) -> Result:
    """Write the text of a request unless it exists. Raises TemplateError and the errors of generate()."""
    key, request = context.resources.load(payload.requests_sha256, read_requests)[payload.number]
    if context.kept.known((key,)):  # written in the meantime for another block
        note = json.dumps({"key": key, "audience": request.audience, "known": True})
        known = Artifact(name=TEXT, media_type=JSON, body=note.encode())
        return Result(artifacts=(known,), output=TextOutput(is_known=True), metrics={"is_known": True})
    text = generate_text(request, settings.text_policy, context.inference, text_seed(key))
    fields = text.model_dump(mode="json")
    body = text_bytes(key, request.audience, fields)
    parents = tuple(Parent("item", item.item_id, payload_digest(item.row)) for item in request.items)
    return Result(
        artifacts=(Artifact(name=TEXT, media_type=JSON, body=body),),
        template=text_template(settings.text_policy).identity,
        output=TextOutput(is_known=False),
        metrics={
            "is_known": False,
            "origin": text.origin,
            "num_tries": text.num_tries,
            "problems": list(text.problems),
        },
        kept=(Kept(key=key, subject=request.audience, value=fields),),
        parents=parents,
    )


def read_requests(body: bytes) -> tuple[tuple[str, TextRequest], ...]:
    """Return the key and the request on each line of a resource."""
    rows = [json.loads(line) for line in body.decode().splitlines()]
    return tuple((row["key"], TextRequest.model_validate(row["request"])) for row in rows)


def text_bytes(key: str, audience: str, text: Mapping[str, object]) -> bytes:
    """Return the artifact of a text, whose fields are in the order of Text."""
    return json.dumps({"key": key, "audience": audience, **text}, ensure_ascii=False, indent=2).encode()


def text_template(policy: TextPolicy) -> PromptTemplate:
    """Return the prompt template that a policy names, such as "recommendation-1". Raises TemplateError."""
    name, _, version = policy.template.rpartition("-")
    return load_template(__package__, name, version)


def generate_text(request: TextRequest, policy: TextPolicy, inference: Inference, seed: int) -> Text:
    """Return the text of a request. Raises TemplateError and the errors of generate()."""
    facts = read_facts(request, policy)
    writer = _Writer(policy, inference, seed, text_template(policy), TextCheck(facts, policy.forbidden))
    written = writer.write(facts)
    parts = plain_parts(facts, writer.check) | written
    return Text(
        **parts,
        origin=MODEL if "blurb" in written else TEMPLATE,
        template_parts=tuple(part for part in PARTS if part not in written),
        num_tries=writer.num_tries,
        problems=tuple(writer.problems),
    )


@dataclass(slots=True)
class _Writer:
    """Requests the parts of one text from the model, and counts attempts and the reasons for refusals."""

    policy: TextPolicy
    inference: Inference
    seed: int
    template: PromptTemplate
    check: TextCheck
    num_tries: int = 0
    problems: list[str] = field(default_factory=list)

    def write(self, facts: TextFacts) -> dict[str, str]:
        """Return the parts of the model's answers that pass the checks."""
        written: dict[str, str] = {}
        lines: list[str] = []
        all_questions = questions(facts)
        if not all_questions:
            self.problems.append("no usable title")
        for number, question in enumerate(all_questions):
            answer = self._answer(question, self.seed + number * self.policy.max_tries)
            if question.block == "line":
                lines += filter(None, [answer.get("blurb")])
            else:
                written |= answer
        if len(facts.items) > 1 and len(lines) >= math.ceil(MIN_LINES * len(facts.items)):
            blurb = _join_lines(lines)
            fault = self.check.find_fault("blurb", blurb)
            if fault is None:
                written["blurb"] = blurb
            else:
                self.problems.append(f"blurb: {fault}")
        return written

    def _answer(self, question: Question, seed: int) -> dict[str, str]:
        """Return the parts of the answers that pass the checks; parts that do not are requested again."""
        kept: dict[str, str] = {}
        for attempt in range(self.policy.max_tries):
            missing = [part for part in question.parts if part not in kept]
            if not missing:
                break
            self.num_tries = max(self.num_tries, attempt + 1)
            simpler = question.of_try(attempt, missing)
            completion = self.inference.generate(
                make_prompt(simpler, self.template, self.policy.tone), self._sampling(seed, attempt)
            )
            is_whole = completion.finish_reason is FinishReason.STOP
            answer = read_answer(completion.text + "}" * is_whole, simpler.parts)
            for part in missing:
                kept |= self._valid_part(part, answer.get(part, ""), is_whole=is_whole)
        return kept

    def _sampling(self, seed: int, attempt: int) -> Sampling:
        return Sampling(
            max_new_tokens=self.policy.max_new_tokens,
            temperature=self.policy.temperature + attempt * RETRY_TEMPERATURE,
            top_p=TOP_P,
            seed=seed + attempt,
            stop=("}",),
        )

    def _valid_part(self, part: str, text: str, *, is_whole: bool) -> dict[str, str]:
        """Return the part, or as much of it as passes the checks: whole sentences or the start of a sentence.

        The result is empty if nothing passes.
        """
        text = _corrected(part, text, is_whole=is_whole)
        fault = self.check.find_fault(part, text)
        if fault is None:
            return {part: text}
        self.problems.append(f"{part}: {fault}")
        kept = ""
        for sentence in split_sentences(text) if part == "blurb" else [text]:
            longer = (f"{kept} {version}".strip() for version in _versions(part, sentence))
            kept = next((text for text in longer if self.check.find_fault(part, text) is None), kept)
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


def _corrected(part: str, text: str, *, is_whole: bool) -> str:
    """Return the text with typical formal mistakes of small models corrected.

    >>> _corrected("headline", "Meet the The Good Earth.", is_whole=True)
    'Meet The Good Earth'
    """
    text = re.sub(r"\b[Tt]he (?=The )", "", text)
    text = re.sub(r"(\b(?:are|come) [^.]*\. )It costs\b", r"\1They cost", text)
    if part == "headline":
        first = split_sentences(text)[:1]
        return first[0].removesuffix(".") if first else ""
    return f"{text}." if is_whole and text[-1:].isalnum() else text


def _join_lines(lines: list[str]) -> str:
    """Join the lines; while the result is too long, the longest line is cut to its first sentence."""
    lines = list(lines)
    while len(" ".join(lines)) > MAX_BLURB_CHARACTERS:
        longest = max(range(len(lines)), key=lambda number: len(lines[number]))
        first = split_sentences(lines[longest])[0]
        if first == lines[longest]:
            break
        lines[longest] = first
    return " ".join(lines)


def plain_text(request: TextRequest, policy: TextPolicy) -> Text:
    """Return the text that is published if the model writes no text, or none that passes the checks."""
    facts = read_facts(request, policy)
    parts = plain_parts(facts, TextCheck(facts, policy.forbidden))
    return Text(**parts, origin=TEMPLATE, template_parts=tuple(parts))


def plain_parts(facts: TextFacts, check: TextCheck) -> dict[str, str]:
    """Return headline, blurb and reason by fixed rules: the same facts give the same text.

    Each part is the first candidate that passes the checks; the last candidate states nothing about any item.
    """
    candidates = {"headline": _headlines(facts), "blurb": _blurbs(facts), "reason": _reasons(facts)}
    return {part: _first_valid(part, texts, check) for part, texts in candidates.items()}


def _first_valid(part: str, texts: Iterator[str], check: TextCheck) -> str:
    text = ""
    for text in texts:
        if check.find_fault(part, text) is None:
            break
    return text


def _headlines(facts: TextFacts) -> Iterator[str]:
    count = len(facts.items)
    if count == 1:
        yield from filter(None, (facts.items[0].name, facts.items[0].title))
    picks = "A pick" if count == 1 else f"{_COUNTS[count] if count < len(_COUNTS) else count} picks"
    category = _shared_category(facts)
    if category is not None:
        yield f"{picks} in {category}"
    yield f"{picks} for you"
    yield "For you"
    yield "Here"


def _blurbs(facts: TextFacts) -> Iterator[str]:
    """Yield candidates for a blurb, without the items whose title no text may contain."""
    titled = [item for item in facts.items if item.title is not None]
    for num_facts in range(max((len(item.other_facts()) for item in titled), default=0), -1, -1):
        yield " ".join(dict.fromkeys(_sentence(item, num_facts) for item in titled))
    for num_items in range(len(titled), 0, -1):
        yield " ".join(dict.fromkeys(f"{item.title}." for item in titled[:num_items]))
    for item in titled:
        yield _sentence(item, 0)
    yield "Have a look: this is one of our picks."
    yield "Here it is."
    yield "Here."


def _reasons(facts: TextFacts) -> Iterator[str]:
    if facts.because is not None:
        yield f"Picked because of {facts.because}."
    category = _shared_category(facts)
    if category is not None:
        yield f"Our pick in {category}."
    yield "Our pick for you."
    yield "For you."
    yield "Here."


def _shared_category(facts: TextFacts) -> str | None:
    categories = {item.first(GROUPS) for item in facts.items}
    return categories.pop() if len(categories) == 1 else None


def _sentence(item: ItemFacts, num_facts: int) -> str:
    phrases = [_phrase(fact) for fact in item.other_facts()[:num_facts]]
    return f"{item.name}: {', '.join(phrases)}." if phrases else f"Have a look at {item.name}."


def _phrase(fact: Fact) -> str:
    """Return a fact in a few words, with the name of its field if the value alone is unclear."""
    if fact.field in MAKERS:
        return f"by {fact.value}"
    if fact.field in GROUPS:
        return f"in {fact.value}"
    if fact.field in MATERIALS:
        return f"made of {fact.value}"
    return fact.value if fact.field in COLOURS | PRICES else fact.alone

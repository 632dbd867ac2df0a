"""Articles: a brief in, Markdown with a title out.

A small model asked for a whole article drifts off its topic and forgets the brief; asked for one paragraph
at a time, each on one point of the outline, it stays. So an article is a conversation: paragraphs are asked
for until the asked length is reached. The turns and what was repaired are in the metrics.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import ClassVar

from pydantic import BaseModel

from jobs.errors import PermanentError
from jobs.guards import INJECTION_SUSPECTED, is_injection_suspected
from jobs.inference import Completion, FinishReason, Message, Prompt, Sampling
from jobs.kind import Artifact, Context, PlanContext, Result
from jobs.kinds.article_brief import DEFAULT_LANGUAGE, ArticleBrief, ArticleSettings
from jobs.metrics.length import is_within_length, relative_length_error
from jobs.metrics.repetition import MAX_REPETITION, seq_rep_n
from jobs.prompts import PromptTemplate
from jobs.text.cleanup import Piece, as_markdown, clean, without_repeats
from jobs.text.language import detect_language, language_name
from jobs.text.sentences import words
from jobs.text.topic import mentions_any

PARAGRAPH_WORDS = 80
"""What the default model writes when asked for one paragraph: 60 to 95 on the example briefs."""

MIN_PARAGRAPH_WORDS = 30
"""Below this a model cannot end a sentence that it began; every turn may write as many."""

MAX_OVERSHOOT = 1.25
"""Room over the missing words: a paragraph that is cut there and mended lands near them."""

MAX_PARAGRAPH_TOKENS = 130
"""Nearly all of its paragraphs end by themselves before this; those that do not are loops."""

TOKENS_PER_WORD = 1.35
"""SmolLM2's tokenizer on its own English articles: 1.2, up to 1.35; more in other languages."""

ENOUGH = 0.85
"""Of the asked words: here another paragraph would overshoot by more than is missing."""

TURNS_IN_PROMPT = 3
"""Earlier paragraphs that the model sees beside the first: enough to go on from, and bounded."""

MAX_OFF_TOPIC = 2
"""Answers without a word of the brief that are thrown away; further ones are kept, so that a job ends."""

FACTS_REPETITION_PENALTY = 1.0
"""Of the turn that gives the facts: a penalty covers the prompt too, and pushes away the facts' own words
("3 March" became "12 March", "Millbrook" became "Ashwood")."""

HTML_SANITISED = "html_sanitised"


class ArticleEmptyError(PermanentError):
    """The model wrote nothing that can be kept; the same seed would write the same again."""

    code = "article_empty"


class ArticleKind:
    """Implements jobs.kind.Kind; without state, so any thread may run it."""

    name: ClassVar[str] = "article"
    version: ClassVar[str] = "1"
    stages: ClassVar[tuple[str, ...]] = ("write",)
    payload_type: type[ArticleBrief] = ArticleBrief
    settings_type: type[BaseModel] = ArticleSettings

    def prompt_prefix(self, payload: ArticleBrief) -> str:  # noqa: ARG002 - all begin alike
        """All articles begin with the same instructions."""
        return "article"

    def plan(self, stage: str, context: PlanContext) -> Iterable[tuple[str, ArticleBrief]]:  # noqa: ARG002
        """Articles have one stage."""
        return ()

    def first_request(self, payload: ArticleBrief, settings: BaseModel) -> tuple[Prompt, Sampling]:
        """What the job will ask first, so that intake can measure it; the seed is not the job's."""
        own = ArticleSettings.model_validate(settings, from_attributes=True)
        draft = _Draft(payload, own.load())
        return draft.next_prompt(), draft.next_sampling(own, seed=0)

    def run(self, payload: ArticleBrief, context: Context) -> Result:
        """Ask for paragraphs until the asked length is there.

        Raises ArticleEmptyError, TemplateError, and what generate() raises.
        """
        settings = ArticleSettings.model_validate(context.settings)
        draft = _Draft(payload, settings.load())
        while not draft.is_finished():
            sampling = draft.next_sampling(settings, context.seed)
            draft.add(context.inference.generate(draft.next_prompt(), sampling))
        body = draft.markdown()
        if not body:
            raise ArticleEmptyError(
                f"nothing of {draft.num_turns} answers could be kept: change topic or sampling"
            )
        title = payload.title or draft.heading() or payload.subject[0].upper() + payload.subject[1:]
        metrics = _metrics(payload, draft, title, body)
        text = _front_matter(payload, context.custom_id, metrics) + f"# {title}\n\n{body}\n"
        artifact = Artifact(name="article.md", media_type="text/markdown", body=text.encode())
        return Result(artifacts=(artifact,), template=draft.template.identity, metrics=metrics)


class _Draft:
    """An article under way: the conversation so far, and what is kept of it."""

    def __init__(self, brief: ArticleBrief, template: PromptTemplate) -> None:
        self.template = template
        self.num_turns = 0
        self.num_off_topic = 0
        self.finish_reason: FinishReason | None = None
        self.pieces: list[Piece] = []
        self._brief = brief
        self._exchanges: list[tuple[Message, Message]] = []
        self._num_planned = max(1, round(brief.length / PARAGRAPH_WORDS))
        self._points = _spread(brief.points or brief.keywords, self._num_planned)
        self._wanted = (brief.subject, *brief.points, *brief.keywords)
        self._question: Message | None = None

    def is_finished(self) -> bool:
        """Enough is written, or as many answers as a willing model needs were asked for."""
        max_turns = 2 + math.ceil(self._brief.length / MIN_PARAGRAPH_WORDS)
        return self.num_words() >= ENOUGH * self._brief.length or self.num_turns >= max_turns

    def next_prompt(self) -> Prompt:
        """The instructions, the first exchange, the last few, and the next question."""
        system = Message("system", self.template.render("system", {}))
        self._question = Message("user", self._render_question())
        window = self._exchanges[:1] + self._exchanges[1:][-TURNS_IN_PROMPT:]
        history = tuple(message for exchange in window for message in exchange)
        return Prompt((system, *history, self._question))

    def next_sampling(self, settings: ArticleSettings, seed: int) -> Sampling:
        """The batch's sampling with room for what is missing; each turn draws from a seed of its own."""
        missing_words = max(MIN_PARAGRAPH_WORDS, MAX_OVERSHOOT * (self._brief.length - self.num_words()))
        return Sampling(
            max_new_tokens=min(MAX_PARAGRAPH_TOKENS, round(missing_words * TOKENS_PER_WORD)),
            temperature=settings.temperature,
            top_p=settings.top_p,
            top_k=settings.top_k,
            repetition_penalty=FACTS_REPETITION_PENALTY if self._has_facts() else settings.repetition_penalty,
            seed=seed + self.num_turns,
        )

    def add(self, completion: Completion) -> None:
        """Keep what is usable of an answer to the question that next_prompt() asked last."""
        self.num_turns += 1
        self.finish_reason = completion.finish_reason
        piece = clean(completion.text)
        is_on_topic = mentions_any(" ".join(piece.blocks), self._wanted)
        if piece.blocks and not is_on_topic and self.num_off_topic < MAX_OFF_TOPIC:
            self.num_off_topic += 1
            return  # the next turn asks again, under another seed
        self.pieces.append(piece)
        if piece.blocks and self._question is not None:
            # The model sees the repaired answer: what it reads it imitates.
            self._exchanges.append((self._question, Message("assistant", as_markdown(piece.blocks))))

    def kept(self) -> tuple[list[str], int]:
        """The blocks of all answers without repeats, and the number of sentences that were dropped."""
        return without_repeats(block for piece in self.pieces for block in piece.blocks)

    def markdown(self) -> str:
        """The article's body, empty if nothing is usable; a text without a whole sentence ends in "…"."""
        cut = (f"{piece.cut_sentence} …" for piece in self.pieces if piece.cut_sentence)
        return as_markdown(self.kept()[0]) or next(cut, "")

    def num_words(self) -> int:
        """Words of the article so far."""
        return sum(len(words(block)) for block in self.kept()[0])

    def heading(self) -> str | None:
        """The heading that the model wrote first, if any."""
        return next((piece.heading for piece in self.pieces if piece.heading), None)

    def _has_facts(self) -> bool:
        return not self._exchanges and self._brief.facts is not None

    def _render_question(self) -> str:
        brief, turn = self._brief, len(self._exchanges)
        is_default_language = brief.language.partition("-")[0] == DEFAULT_LANGUAGE
        variables: dict[str, object] = {
            "topic": brief.subject,
            "audience": brief.audience,
            "tone": brief.tone,
            "facts": brief.facts,
            "language": None if is_default_language else language_name(brief.language),
            "point": self._points[turn] if turn < len(self._points) else None,
            "keywords": brief.keywords if brief.points else (),
            "turn": turn,
        }
        return self.template.render("next" if self._exchanges else "first", variables)


def _spread(points: Sequence[str], num_paragraphs: int) -> list[str]:
    """At most one point a paragraph: where there are more, neighbours share one."""
    if len(points) <= num_paragraphs:
        return list(points)
    edges = [round(i * len(points) / num_paragraphs) for i in range(num_paragraphs + 1)]
    return [" and ".join(points[start:end]) for start, end in pairwise(edges)]


def _metrics(brief: ArticleBrief, draft: _Draft, title: str, body: str) -> dict[str, object]:
    tokens = words(body)
    flags = [INJECTION_SUSPECTED] if any(map(is_injection_suspected, brief.texts())) else []
    if any(piece.is_html_sanitised for piece in draft.pieces):
        flags.append(HTML_SANITISED)
    repetition = seq_rep_n(tokens)
    return {
        "title": title,
        "asked_words": brief.length,
        "num_words": len(tokens),
        "length_error": round(relative_length_error(len(tokens), brief.length), 4),
        "is_within_length": is_within_length(len(tokens), brief.length),
        "repetition": round(repetition, 4),
        "is_within_repetition": repetition <= MAX_REPETITION,
        "asked_language": brief.language,
        "detected_language": detect_language(body),
        "finish_reason": draft.finish_reason.value if draft.finish_reason else None,
        "was_truncated": draft.pieces[-1].cut_sentence is not None,
        "num_truncated": sum(piece.cut_sentence is not None for piece in draft.pieces),
        "num_sentences_removed": draft.kept()[1] + sum(piece.num_noise for piece in draft.pieces),
        "num_turns": draft.num_turns,
        "num_off_topic": draft.num_off_topic,
        "flags": flags,
    }


def _front_matter(brief: ArticleBrief, custom_id: str, metrics: Mapping[str, object]) -> str:
    """YAML; its scalars are written as JSON, which YAML 1.2 contains."""
    fields = {"title": metrics["title"], "id": custom_id, "keywords": list(brief.keywords)}
    fields |= {
        name: metrics[name] for name in ("asked_language", "detected_language", "asked_words", "num_words")
    }
    lines = [f"{name}: {json.dumps(value, ensure_ascii=False)}\n" for name, value in fields.items()]
    return f"---\n{''.join(lines)}---\n\n"

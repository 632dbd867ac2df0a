"""An article under way: what is asked next, and what is kept of the answers.

A small model asked for a whole article drifts off its topic and forgets the brief; asked for one paragraph
at a time, each on one point of the outline, it stays. So an article is a conversation: paragraphs are asked
for until the asked length is reached. The turns and what was repaired are in the metrics.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from jobs.inference import Completion, FinishReason, Message, Prompt, Sampling
from jobs.prompt_template import PromptTemplate
from jobs.text.cleanup import Piece, as_markdown, clean, without_repeats
from jobs.text.sentences import words
from jobs.text.topic import names_any
from kinds.article.brief import ArticleBrief, ArticleSettings, template_variables

PARAGRAPH_WORDS = 80
"""About what the default model writes when asked for one paragraph: 40 to 100 on the example briefs."""

MIN_PARAGRAPH_WORDS = 30
"""Below this a model cannot end a sentence that it began; every turn may write as many."""

MAX_OVERSHOOT = 1.25
"""Room over the missing words: a paragraph that is cut there and mended lands near them."""

MAX_PARAGRAPH_TOKENS = 130
"""About 100 words: a paragraph that has not ended by then drifts; it is cut and mended."""

TOKENS_PER_WORD = 1.35
"""SmolLM2's tokenizer on its own English: 1.1 to 1.3; the rest is head-room for names and numbers."""

ENOUGH = 0.85
"""Of the asked words: here another paragraph would overshoot by more than is missing."""

TURNS_IN_PROMPT = 3
"""Earlier paragraphs that the model sees beside the first: enough to go on from, and bounded."""

MAX_OFF_TOPIC = 2
"""Answers without a word of the brief that are thrown away; further ones are kept, so that a job ends."""

FACTS_REPETITION_PENALTY = 1.0
"""Of the turn that gives the facts: a penalty covers the prompt too, and pushes away the facts' own words
("3 March" became "12 March", "Millbrook" became "Ashwood")."""


class Draft:
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
        is_on_topic = names_any(" ".join(piece.blocks), self._wanted)
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
        turn = len(self._exchanges)
        point = self._points[turn] if turn < len(self._points) else None
        variables = template_variables(self._brief, turn=turn, point=point)
        return self.template.render("next" if self._exchanges else "first", variables)


def _spread(points: Sequence[str], num_paragraphs: int) -> list[str]:
    """At most one point a paragraph: where there are more, neighbours share one."""
    if len(points) <= num_paragraphs:
        return list(points)
    edges = [round(i * len(points) / num_paragraphs) for i in range(num_paragraphs + 1)]
    return [" and ".join(points[start:end]) for start, end in pairwise(edges)]

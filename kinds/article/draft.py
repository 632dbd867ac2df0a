"""The draft of an article: the next prompt, and the usable parts of the model's answers.

When asked for a whole article, a small model drifts off its topic and forgets the brief; when asked for one
paragraph at a time, each on one point of the outline, it stays on topic. So an article is a conversation that
requests paragraphs until the requested length is reached. The metrics record the turns and the repairs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from itertools import pairwise

from jobs.inference import Completion, FinishReason, Message, Prompt, RequestSize, Sampling
from jobs.prompt_template import PromptTemplate
from jobs.text.language import language_name
from jobs.text.prose import names_any, words
from jobs.text.repair import Piece, as_markdown, clean, without_repeats
from kinds.article.brief import ArticleBrief, ArticleSettings, template_variables

PARAGRAPH_WORDS = 80
"""Typical number of words of a paragraph: the default model writes 40 to 100 for the example briefs."""

MIN_PARAGRAPH_WORDS = 30
"""Minimum of the word limit of a turn; with a lower limit, a model cannot finish the sentence it began."""

MAX_OVERSHOOT = 1.25
"""Word limit of a turn, as a multiple of the missing words. A paragraph that is cut at this limit and
then repaired has about the missing length."""

MAX_PARAGRAPH_TOKENS = 130
"""Maximum tokens of a paragraph, about 100 words. A longer paragraph drifts off its topic, so it is cut and
repaired."""

TOKENS_PER_WORD = 1.35
"""Tokens assumed per word: SmolLM2's tokenizer needs 1.1 to 1.3 for the model's own English, and the rest is
headroom for names and numbers."""

ENOUGH = 0.85
"""Share of the requested words at which the article is complete: another paragraph would overshoot by more
than is missing."""

TURNS_IN_PROMPT = 3
"""Maximum number of recent paragraphs in the prompt, in addition to the first one: enough for the model to
continue from, without making the prompt too long."""

MAX_OFF_TOPIC = 2
"""Maximum number of answers discarded as off-topic; later off-topic answers are kept, so that every job ends.
"""

FACTS_REPETITION_PENALTY = 1.0
"""Repetition penalty of the turns that request the first paragraph, if the brief has facts.

A higher penalty would also apply to the words of the prompt, and so change the facts ("3 March" became
"12 March", "Millbrook" became "Ashwood").
"""


class Draft:
    """An article in progress: the conversation so far, and the parts of it that are kept."""

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
        """Return whether the article is long enough or has reached the maximum number of turns."""
        max_turns = 2 + math.ceil(self._brief.length / MIN_PARAGRAPH_WORDS)
        return self.num_words() >= ENOUGH * self._brief.length or self.num_turns >= max_turns

    def next_prompt(self) -> Prompt:
        """Return the prompt: the instructions, the first and the latest exchanges, and the next question."""
        system = Message("system", self.template.render("system", {}))
        self._question = Message("user", self._render_question())
        window = self._exchanges[:1] + self._exchanges[1:][-TURNS_IN_PROMPT:]
        history = tuple(message for exchange in window for message in exchange)
        return Prompt((system, *history, self._question))

    def next_sampling(self, settings: ArticleSettings, seed: int) -> Sampling:
        """Return the batch's sampling with a limit for the missing words; each turn has its own seed."""
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
        """Keep the usable part of the answer to the last prompt, unless it is discarded as off-topic."""
        self.num_turns += 1
        self.finish_reason = completion.finish_reason
        piece = clean(completion.text)
        is_on_topic = names_any(" ".join(piece.blocks), self._wanted)
        if piece.blocks and not is_on_topic and self.num_off_topic < MAX_OFF_TOPIC:
            self.num_off_topic += 1
            return  # the next turn repeats the question with a different seed
        self.pieces.append(piece)
        if piece.blocks and self._question is not None:
            # The model sees the repaired answer, because it imitates what it reads.
            self._exchanges.append((self._question, Message("assistant", as_markdown(piece.blocks))))

    def kept(self) -> tuple[list[str], int]:
        """Return all answers' blocks without repeated sentences, and the number of removed sentences."""
        return without_repeats(block for piece in self.pieces for block in piece.blocks)

    def markdown(self) -> str:
        """Return the article's body; if no block is usable, the first incomplete sentence and "…", if any."""
        cut = (f"{piece.cut_sentence} …" for piece in self.pieces if piece.cut_sentence)
        return as_markdown(self.kept()[0]) or next(cut, "")

    def num_words(self) -> int:
        """Return the number of words of the article so far."""
        return sum(len(words(block)) for block in self.kept()[0])

    def heading(self) -> str | None:
        """Return the first heading that the model wrote, if any."""
        return next((piece.heading for piece in self.pieces if piece.heading), None)

    def _has_facts(self) -> bool:
        return not self._exchanges and self._brief.facts is not None

    def _render_question(self) -> str:
        turn = len(self._exchanges)
        point = self._points[turn] if turn < len(self._points) else None
        variables = template_variables(self._brief, turn=turn, point=point)
        return self.template.render("next" if self._exchanges else "first", variables)


_COMPLETE = ArticleBrief(
    topic="a", keywords=("k",), audience="b", tone="c", language="fr", outline="d", facts="e"
)
"""A brief that sets every variable of a template, so that all of the template's fixed text is written."""

_JOINT_BYTES = 5
"""Maximum bytes between two keywords or points of a prompt: the length of " and "."""

_QUOTES_BYTES = 12
"""Maximum bytes of quotation marks. They surround each of up to six values that seem to give instructions."""


@cache
def _literal_bytes(template: PromptTemplate) -> int:
    """Return the maximum bytes of the template's fixed text in the first request."""
    prompt = Draft(_COMPLETE, template).next_prompt()
    return sum(len(message.content.encode()) for message in prompt.messages)


def first_request_size(brief: ArticleBrief, template: PromptTemplate) -> RequestSize:
    """Return an upper bound of the first request's size, without rendering it.

    The template must be one of Pressroom's own, because these write each value of a brief at most once.
    """
    outline = brief.outline or ""
    num_parts = len(brief.keywords) + outline.count(";") + outline.count("\n") + 1
    quoted = "".join((*brief.texts(), language_name(brief.language))).encode()
    num_bytes = _literal_bytes(template) + len(quoted) + _JOINT_BYTES * num_parts + _QUOTES_BYTES
    return RequestSize(("system", "user"), num_bytes, MAX_PARAGRAPH_TOKENS)


def _spread(points: Sequence[str], num_paragraphs: int) -> list[str]:
    """Return at most one point per paragraph; if there are more, neighbouring points are joined."""
    if len(points) <= num_paragraphs:
        return list(points)
    edges = [round(i * len(points) / num_paragraphs) for i in range(num_paragraphs + 1)]
    return [" and ".join(points[start:end]) for start, end in pairwise(edges)]

"""Decodes a growing list of token ids into text, to find stop strings and thoughts."""

from __future__ import annotations

from collections.abc import Callable

from jobs.text.thoughts import CHANNEL_MESSAGE
from workers.engine import Tokenizer
from workers.thinking import ThoughtPlan

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
"""The result of decoding bytes that do not yet form a whole character."""


class TextStream:
    """Decodes token by token and watches for stop strings outside of thoughts.

    A token may contain a part of a character, and some decoders treat the first token of a text differently.
    Each step therefore decodes the last few tokens with and without the new one and takes the difference, as
    text-generation-inference does (`decode_token`).
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        stop: tuple[str, ...],
        thoughts: ThoughtPlan | None = None,
        min_tokens: int = 0,
    ) -> None:
        """Begin an empty text. A stop string ends it only if the answer then has `min_tokens` tokens."""
        self._decode = tokenizer.decode if thoughts is None else thoughts.decode
        self._stop = stop
        self._thoughts = thoughts
        self._min_tokens = min_tokens
        self._token_ids: list[int] = []
        self._context_start = 0
        """Start of the decoded window. It lies before the first undecoded token, so that this token has
        context."""
        self._undecoded_start = 0
        self.text = ""
        self.stop_string: str | None = None
        self.num_thought_tokens = 0 if thoughts is None or not thoughts.is_inside else thoughts.max_tokens
        """Number of tokens that the text may have in addition to those of the answer: the maximum for
        thoughts while a thought lasts, then the number of tokens up to its end."""
        self._was_thinking = thoughts is not None and thoughts.is_inside
        self._fixed_begin: int | None = None
        self.may_stop: Callable[[str], bool] = lambda _: True
        """Whether a stop string may end the answer after this text."""

    def push(self, token_id: int) -> str | None:
        """Add a token; return the stop string if the text now contains one, and end `text` before it."""
        self._token_ids.append(token_id)
        piece = self._new_text()
        if not piece or piece.endswith(REPLACEMENT):
            return None
        return self._append(piece)

    def finish(self) -> str | None:
        """Complete the text with tokens that were held back because their last character is incomplete.

        Returns the stop string, if the text contains one.
        """
        piece = self._new_text()
        return self._append(piece) if piece and self.stop_string is None else self.stop_string

    def _new_text(self) -> str:
        ids = self._token_ids
        known = self._decode(tuple(ids[self._context_start : self._undecoded_start]))
        return self._decode(tuple(ids[self._context_start :]))[len(known) :]

    def _append(self, piece: str) -> str | None:
        self._context_start, self._undecoded_start = self._undecoded_start, len(self._token_ids)
        num_known = len(self.text)
        self.text += piece
        begin = self._answer_begin()
        if begin is None or len(self._token_ids) - self.num_thought_tokens < self._min_tokens:
            return None
        # Only a stop string that the new piece completes is new.
        begins = {stop: max(begin, num_known - len(stop) + 1) for stop in self._stop}
        hits = [(at, stop) for stop in self._stop if (at := self.text.find(stop, begins[stop])) >= 0]
        hits = [(at, stop) for at, stop in hits if self.may_stop(self.text[begin:at])]
        if hits:
            # If several stop strings begin at the same place, the longest is reported; the text is the same.
            at, self.stop_string = min(hits, key=lambda hit: (hit[0], -len(hit[1])))
            self.text = self.text[:at]
        return self.stop_string

    @property
    def thought_begin_ids(self) -> tuple[int, ...]:
        """Tokens with which a thought can begin in place of the answer."""
        return () if self._thoughts is None or not self.has_answer else self._thoughts.begin_ids

    @property
    def has_answer(self) -> bool:
        """Whether the next token belongs to the answer."""
        if self._thoughts is None or self._fixed_begin is not None:
            return True
        if not self._thoughts.marks.has_channels:
            return not self._was_thinking
        # Only a message on the channel of the answer is one.
        reading = self._thoughts.marks.read(self.text, is_inside=self._thoughts.is_inside)
        return not reading.is_open and self.text.endswith(CHANNEL_MESSAGE)

    def begin_answer(self) -> str:
        """Read everything from here on as the answer, also what looks like a mark; return what it has.

        That is the end of a token in which a thought ends, without whitespace before it.
        """
        if self._fixed_begin is not None or self._thoughts is None:
            return ""
        beginning = self.text[self._answer_begin() or 0 :].lstrip()
        self._fixed_begin = len(self.text) - len(beginning)
        return beginning

    @property
    def answer(self) -> str:
        """The text after the place where begin_answer() was called."""
        return self.text[self._fixed_begin or 0 :]

    @property
    def thought(self) -> str | None:
        """The text before that place, with its marks; None if it is empty."""
        return self.text[: self._fixed_begin] or None if self._fixed_begin is not None else None

    def _answer_begin(self) -> int | None:
        """Return where the current part of the answer begins; None inside a thought."""
        thoughts = self._thoughts
        if thoughts is None or self._fixed_begin is not None:
            return self._fixed_begin or 0
        reading = thoughts.marks.read(self.text, is_inside=thoughts.is_inside)
        if reading.is_open:
            self.num_thought_tokens = thoughts.max_tokens
            self._was_thinking = True
            return None
        if self._was_thinking:
            self.num_thought_tokens = min(len(self._token_ids), thoughts.max_tokens)
            self._was_thinking = False
        return reading.spans[-1][0] if reading.spans else len(self.text)

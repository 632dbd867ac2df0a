"""Decodes a growing list of token ids into text, to find stop strings and thoughts."""

from __future__ import annotations

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
        begin = 0 if self._thoughts is None else self._answer_begin(self._thoughts)
        if begin is None or len(self._token_ids) - self.num_thought_tokens < self._min_tokens:
            return None
        # Only a stop string that the new piece completes is new.
        begins = {stop: max(begin, num_known - len(stop) + 1) for stop in self._stop}
        hits = [(at, stop) for stop in self._stop if (at := self.text.find(stop, begins[stop])) >= 0]
        if hits:
            # If several stop strings begin at the same place, the longest is reported; the text is the same.
            at, self.stop_string = min(hits, key=lambda hit: (hit[0], -len(hit[1])))
            self.text = self.text[:at]
        return self.stop_string

    def _answer_begin(self, thoughts: ThoughtPlan) -> int | None:
        """Return where the current part of the answer begins; None inside a thought."""
        reading = thoughts.marks.read(self.text, is_inside=thoughts.is_inside)
        if reading.is_open:
            self.num_thought_tokens = thoughts.max_tokens
            self._was_thinking = True
            return None
        if self._was_thinking:
            self.num_thought_tokens = min(len(self._token_ids), thoughts.max_tokens)
            self._was_thinking = False
        return reading.spans[-1][0] if reading.spans else len(self.text)

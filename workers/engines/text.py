"""Text of a growing list of token ids, for stop strings."""

from __future__ import annotations

from workers.engine import Tokenizer

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
"""What decoding gives for bytes that are not yet a whole character."""


class TextStream:
    """Decodes token by token and watches for stop strings.

    A token may hold a part of a character, and some decoders treat the first token of a text apart; so each
    step decodes the last few tokens with and without the new one and takes the difference, as
    text-generation-inference does (`decode_token`).
    """

    def __init__(self, tokenizer: Tokenizer, stop: tuple[str, ...]) -> None:
        self._tokenizer = tokenizer
        self._stop = stop
        self._longest = max(map(len, stop))
        self._token_ids: list[int] = []
        self._context_start = 0
        """Decoding starts here, so that the first undecoded token has a neighbour."""
        self._undecoded_start = 0
        self.text = ""
        self.stop_string: str | None = None

    def push(self, token_id: int) -> str | None:
        """Add a token; returns the stop string if the text now holds one. `text` then ends before it."""
        self._token_ids.append(token_id)
        piece = self._new_text()
        if not piece or piece.endswith(REPLACEMENT):
            return None
        return self._append(piece)

    def finish(self) -> str | None:
        """The text is complete: what was held back for want of a whole character is added as it is."""
        piece = self._new_text()
        return self._append(piece) if piece and self.stop_string is None else self.stop_string

    def _new_text(self) -> str:
        ids = self._token_ids
        known = self._tokenizer.decode(tuple(ids[self._context_start : self._undecoded_start]))
        return self._tokenizer.decode(tuple(ids[self._context_start :]))[len(known) :]

    def _append(self, piece: str) -> str | None:
        self._context_start, self._undecoded_start = self._undecoded_start, len(self._token_ids)
        begin = max(0, len(self.text) - self._longest + 1)
        self.text += piece
        found = [(at, stop) for stop in self._stop if (at := self.text.find(stop, begin)) >= 0]
        if found:
            # At the same place the longest stop string is reported; the text is the same.
            at, self.stop_string = min(found, key=lambda hit: (hit[0], -len(hit[1])))
            self.text = self.text[:at]
        return self.stop_string

"""The policy of continuous batching: which request is computed next, in which slot, and from which prefix.

This module uses no tensors. A request waits, is prefilled into the slot after the last running one, and runs
until it is finished; the last running row then moves into its slot, so that the running rows are always slots
0..n-1 and a batch is a view, never a gather. The design follows nano-vllm's scheduler:
https://github.com/GeeeekExplorer/nano-vllm
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from workers.engine import Request
from workers.engines.constraints import Matcher
from workers.prefix import MIN_PREFIX_TOKENS, PrefixIndex, PrefixMatch, common_prefix_length


@dataclass(slots=True, eq=False)
class Generation:
    """A request on its way through the engine. Owned by the engine's thread."""

    request: Request
    slot: int = -1
    """Row of the key-value cache; -1 while waiting."""
    num_cached_tokens: int = 0
    """Number of prompt tokens that came from a kept prefix."""
    output_ids: list[int] = field(default_factory=list)
    num_near_ties: int = 0
    draws: list[float] = field(default_factory=list)
    """Uniform random numbers in [0, 1), one for each new token, from the request's own random generator."""
    barred_ids: tuple[int, ...] = ()
    """Token ids that must not come next, because the text is still too short to end."""
    matcher: Matcher | None = None
    """The place of the text in the grammar of its constraint; None where any token may come next."""
    extra_ids: tuple[int, ...] = ()
    """Token ids that may come next although the constraint does not allow them, because they begin a thought.
    """

    @property
    def prompt_ids(self) -> tuple[int, ...]:
        return self.request.prompt_ids

    @property
    def num_tokens(self) -> int:
        """Return the number of tokens in prompt and output.

        The cache has the keys and values of all of them but the last.
        """
        return len(self.request.prompt_ids) + len(self.output_ids)


@dataclass(frozen=True, slots=True)
class PrefillRow:
    """An instruction: compute prompt_ids[start:stop] in a slot, after a kept prefix or an earlier chunk."""

    generation: Generation
    slot: int
    start: int
    stop: int
    prefix_key: int | None = None

    @property
    def is_last(self) -> bool:
        """Whether the prompt is complete after this chunk, so a first token follows."""
        return self.stop == len(self.generation.prompt_ids)


@dataclass(frozen=True, slots=True)
class PrefixSave:
    """An instruction: keep the first num_tokens of a slot under a key before the batch is computed."""

    key: int
    slot: int
    num_tokens: int


@dataclass(slots=True)
class PrefillBatch:
    """The prompts that one step computes, with the prefixes to save before it and to drop after it."""

    rows: list[PrefillRow] = field(default_factory=list)
    saves: list[PrefixSave] = field(default_factory=list)
    dropped_keys: list[int] = field(default_factory=list)
    """Prefixes to drop after the batch, since a row of the batch may still begin from one of them."""


@dataclass(frozen=True, slots=True)
class SlotMove:
    """An instruction: copy the first num_tokens of one slot to another."""

    source: int
    target: int
    num_tokens: int


class Scheduler:
    """Admits requests in order of arrival, under a budget of prompt tokens per step. Used by one thread.

    Slot num_slots is the staging slot: a prompt longer than the budget is computed there in chunks, between
    decode steps, and moves to the running rows when it is complete.
    """

    def __init__(self, *, num_slots: int, max_prefill_tokens: int, max_prefix_tokens: int) -> None:
        self.num_slots = num_slots
        self.max_prefill_tokens = max_prefill_tokens
        self.waiting: deque[Generation] = deque()
        self.running: list[Generation] = []
        self.staged: Generation | None = None
        self._staged_tokens = 0
        self._prefixes = PrefixIndex(max_prefix_tokens)

    @property
    def has_work(self) -> bool:
        return bool(self.waiting or self.running or self.staged)

    @property
    def num_running(self) -> int:
        return len(self.running) + (self.staged is not None)

    def generations(self) -> Iterator[Generation]:
        """Yield every generation that is not finished, in no particular order."""
        yield from self.running
        if self.staged is not None:
            yield self.staged
        yield from self.waiting

    def add(self, generation: Generation) -> None:
        """Queue a request."""
        self.waiting.append(generation)

    def plan_prefill(self) -> PrefillBatch | None:
        """Take from the queue the rows that this step computes; return None if there are none.

        The rows count as running from now on. A request that shares a prefix with a prompt of the same
        batch is held for the next step, in which it can copy that prefix; requests behind it may overtake it.
        """
        if self.staged is not None:
            return self._next_chunk(self.staged)
        batch = PrefillBatch()
        held: list[Generation] = []
        longest = 0
        while self.waiting and len(self.running) < self.num_slots and len(held) < self.num_slots:
            generation = self.waiting[0]
            match = self._match(generation, batch)
            num_suffix = len(generation.prompt_ids) - match.num_tokens
            if self._is_better_held(generation, match, batch):
                held.append(self.waiting.popleft())
            elif num_suffix > self.max_prefill_tokens:
                if not batch.rows:
                    self._stage(self.waiting.popleft(), match, batch)
                break
            elif (len(batch.rows) + 1) * max(longest, num_suffix) > self.max_prefill_tokens:
                break
            else:
                longest = max(longest, num_suffix)
                self._admit(self.waiting.popleft(), match, batch)
        self.waiting.extendleft(reversed(held))
        return batch if batch.rows else None

    def prefilled(self, row: PrefillRow) -> SlotMove | None:
        """Record that the row's tokens are in the cache.

        If a staged prompt is now complete, returns its move to the running rows, otherwise None.
        """
        if row.generation is not self.staged:
            return None
        self._staged_tokens = row.stop
        if not row.is_last:
            return None
        self.staged = None
        move = SlotMove(row.slot, len(self.running), row.stop)
        self._run(row.generation)
        return move

    def remove(self, generation: Generation) -> SlotMove | None:
        """Remove a generation that ends, for whatever reason.

        Returns the move of the last running row into its slot; None if no row has to move.
        """
        if generation is self.staged:
            self.staged = None
            return None
        if generation.slot < 0:
            self.waiting.remove(generation)
            return None
        last = self.running.pop()
        if last is generation:
            return None
        move = SlotMove(last.slot, generation.slot, last.num_tokens)
        self.running[generation.slot] = last
        last.slot = generation.slot
        return move

    def forget_prefix(self, key: int) -> None:
        """Remove a prefix that the engine could not keep."""
        self._prefixes.remove(key)

    def _admit(self, generation: Generation, match: PrefixMatch, batch: PrefillBatch) -> None:
        generation.num_cached_tokens = match.num_tokens
        self._run(generation)
        stop = len(generation.prompt_ids)
        batch.rows.append(PrefillRow(generation, generation.slot, match.num_tokens, stop, match.key))

    def _run(self, generation: Generation) -> None:
        generation.slot = len(self.running)
        self.running.append(generation)

    def _stage(self, generation: Generation, match: PrefixMatch, batch: PrefillBatch) -> None:
        generation.num_cached_tokens = self._staged_tokens = match.num_tokens
        generation.slot = self.num_slots
        self.staged = generation
        row = self._next_chunk(generation).rows[0]
        batch.rows.append(PrefillRow(generation, row.slot, row.start, row.stop, match.key))

    def _next_chunk(self, generation: Generation) -> PrefillBatch:
        start = self._staged_tokens
        stop = min(len(generation.prompt_ids), start + self.max_prefill_tokens)
        return PrefillBatch([PrefillRow(generation, self.num_slots, start, stop)])

    def _match(self, generation: Generation, batch: PrefillBatch) -> PrefixMatch:
        """Return the longest prefix that can be copied.

        It comes from a kept prefix, or from a running prompt, part of which is then kept as a prefix.
        """
        prompt_ids = generation.prompt_ids
        match = self._prefixes.find(prompt_ids)
        in_batch = {id(row.generation) for row in batch.rows}
        best, source = match.num_tokens + MIN_PREFIX_TOKENS - 1, None
        for other in self.running:
            if other.prompt_ids[: best + 1] == prompt_ids[: best + 1] and id(other) not in in_batch:
                length = common_prefix_length(other.prompt_ids, prompt_ids)
                length = min(length, len(prompt_ids) - 1, self._prefixes.max_tokens)
                if length > best:
                    best, source = length, other
        if source is None:
            return match
        key, dropped = self._prefixes.add(prompt_ids[:best])
        batch.saves.append(PrefixSave(key, source.slot, best))
        batch.dropped_keys.extend(dropped)
        return PrefixMatch(key, best)

    def _is_better_held(self, generation: Generation, match: PrefixMatch, batch: PrefillBatch) -> bool:
        """Return whether a prompt of this batch shares at least MIN_PREFIX_TOKENS more leading ids with the
        request than the match does."""
        wanted = match.num_tokens + MIN_PREFIX_TOKENS
        if wanted > self._prefixes.max_tokens or len(generation.prompt_ids) <= wanted:
            return False
        return any(row.generation.prompt_ids[:wanted] == generation.prompt_ids[:wanted] for row in batch.rows)

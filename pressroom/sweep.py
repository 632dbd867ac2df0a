"""The sweep of the store: deletes packs that no row references, and rewrites packs of which little is left.

A worker stores a pack first and commits its rows later. A sweep must never delete a pack whose rows can still
be committed. A pack is stored after its jobs were claimed, and a result is committed only while its job is
running under the same claim. So a pack that is older than the oldest claim of a running job, and is not
referenced now, will never be referenced.

A pack that was rewritten is deleted by a later sweep. A reader that read the rows before the move, and then
finds the old pack missing, reads the rows again.
"""

from __future__ import annotations

import itertools
import re
import secrets
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta

from sqlalchemy import Engine

from db import leads
from db.packs import (
    Move,
    ReferencedPart,
    References,
    SweepUnderWayError,
    move_parts,
    oldest_claim_age,
    pack_references,
    referenced_parts,
)
from jobs.errors import ConfigurationError
from jobs.provenance import StatementAlteredError, sha256_hex
from pressroom.results import ArtifactAlteredError
from pressroom.summary import Altered
from storage.packs import (
    MAX_PACK_BYTES,
    MEDIA_TYPE,
    PREFIX,
    Part,
    Place,
    begin_reads,
    build_pack,
    pack_key,
)
from storage.store import ObjectEntry, ObjectNotFoundError, Store, store_clock
from workers.lead import Lead
from workers.publisher import entry_name

DEFAULT_AGE = timedelta(days=1)

MIN_AGE = timedelta(hours=1)
"""Minimum age of packs that are deleted or rewritten, and minimum time by which they must be older than the
oldest running claim. It allows for the difference between the clocks of Postgres and the store, and for steps
of these clocks."""

PAGE_PACKS = 1_000
"""Number of packs whose references are counted by one query: the length of a page of an S3 listing."""

MAX_LIVE_SHARE = 0.1
"""Maximum referenced share of a pack's bytes at which the pack is rewritten. Each byte that is copied then
frees at least nine others."""

ENTRY_BYTES = 512
"""Maximum size of an entry of a pack in addition to its body: two headers, each with the entry's name."""

MAX_NEW_SHARE = 0.5
"""Maximum size of the new pack, headers included, as a share of the old pack's size. This limit keeps a pack
of tiny parts, which consists mostly of headers, from being rewritten again and again."""

MAX_PARTS = 1_000
"""Maximum parts of a new pack, which bounds the rows that one transaction changes."""

READ_THREADS = 4
"""Number of ranges of one pack that are read at the same time."""

_PACK_KEY = re.compile(rf"{PREFIX}[0-9a-f]{{2}}/([0-9a-f]{{64}})")


@dataclass(slots=True)
class SweepReport:
    """Outcome of a sweep; for a dry run, what a sweep would do."""

    num_packs: int = 0
    """Number of packs in the store, including those that are too young."""
    num_deleted: int = 0
    num_rewritten: int = 0
    """Number of packs whose intact parts were copied to a new pack. A later sweep deletes these packs."""
    bytes_freed: int = 0
    altered: list[Altered] = field(default_factory=list)
    """Parts that do not match their digests; they are left in place."""

    def as_json(self) -> dict[str, object]:
        """Return the report as JSON for scripts."""
        return {
            "num_packs": self.num_packs,
            "num_deleted": self.num_deleted,
            "num_rewritten": self.num_rewritten,
            "bytes_freed": self.bytes_freed,
            "altered": [altered.as_json() for altered in self.altered],
        }


class ForeignStoreError(ConfigurationError):
    """The database references none of the packs in the store, so they may belong to another database."""

    code = "sweep_store_foreign"


class Sweep:
    """One sweep of a store. It belongs to one thread, and holds one page of the listing at a time."""

    def __init__(
        self,
        database: Engine,
        store: Store,
        *,
        min_age: timedelta = DEFAULT_AGE,
        is_dry: bool = False,
        may_empty: bool = False,
    ) -> None:
        """Prepare to delete and rewrite packs of at least `min_age`, or only to count them if `is_dry`.

        With `may_empty`, all packs may be deleted if the database references none of them.
        """
        self._database = database
        self._store = store
        self._min_age = min_age
        self._is_dry = is_dry
        self._may_empty = may_empty
        self._lead = Lead(database, leads.SWEEP)
        self._fence: int | None = None
        self._copies: list[tuple[ReferencedPart, bytes]] = []
        """Checked parts that wait for a new pack."""
        self._report = SweepReport()

    def run(self) -> SweepReport:
        """Sweep all packs. An interruption at any point does no harm, because the next sweep does the rest.

        Raises ForeignStoreError, SweepUnderWayError, StoreError or DBAPIError.
        """
        if not self._may_empty:
            self._require_own_packs()
        with self._leading():
            started_at = store_clock(self._store)
            for page in _pages(self._store):
                self._report.num_packs += len(page)
                min_age = max(self._min_age, self._age_without_claims())
                self._sweep([entry for entry in page if started_at - entry.stored_at > min_age])
            self._store_copies()
        return self._report

    def _require_own_packs(self) -> None:
        """Raise ForeignStoreError if there are packs and the database references none of them."""
        num_packs = 0
        for page in _pages(self._store):
            num_packs += len(page)
            if pack_references(self._database, [entry.key for entry in page]):
                return
        if num_packs:
            raise ForeignStoreError(
                f"the database references none of the packs in {self._store.location} ({num_packs:,} packs): "
                "check that PRESSROOM_DB_URL and PRESSROOM_S3_URL belong together, or sweep them with --all"
            )

    @contextmanager
    def _leading(self) -> Iterator[None]:
        """Hold the lead during the block, unless this is a dry run."""
        if self._is_dry:
            yield
            return
        try:
            self._require_lead()
            yield
        finally:
            self._lead.give_up()

    def _require_lead(self) -> None:
        """Raise SweepUnderWayError unless this sweep has held the lead without interruption since it
        began."""
        if not self._lead.is_held() or self._fence not in (None, self._lead.fence):
            raise SweepUnderWayError
        self._fence = self._lead.fence

    def _age_without_claims(self) -> timedelta:
        """Return the age above which no pack can belong to a running job, whose result may still be
        committed."""
        oldest = oldest_claim_age(self._database)
        return oldest + MIN_AGE if oldest else timedelta()

    def _sweep(self, page: Sequence[ObjectEntry]) -> None:
        """Delete or rewrite old packs.

        The age of the oldest claim is read first and the references of the packs second, so that no commit
        in between is missed.
        """
        references = pack_references(self._database, [entry.key for entry in page]) if page else {}
        for entry in page:
            found = references.get(entry.key)
            if found is None:
                self._delete(entry)
            elif _is_sparse(found, entry):
                self._rewrite(entry)

    def _delete(self, entry: ObjectEntry) -> None:
        if not self._is_dry:
            self._require_lead()
            self._store.delete(entry.key)
        self._report.num_deleted += 1
        self._report.bytes_freed += entry.num_bytes

    def _rewrite(self, entry: ObjectEntry) -> None:
        """Read and check the parts that are left of a pack, and copy the intact ones to a new pack."""
        parts = referenced_parts(self._database, entry.key)
        places = [Place(part.object_key, part.num_bytes, part.byte_offset) for part in parts]
        num_intact = 0
        with ThreadPoolExecutor(READ_THREADS, thread_name_prefix="sweep") as pool:
            for part, place, read in zip(parts, places, begin_reads(self._store, pool, places), strict=True):
                try:
                    body = read()
                except ObjectNotFoundError:
                    body = None
                if body is None or (sha256_hex(body), len(body)) != (part.sha256, part.num_bytes):
                    self._report.altered.append(_altered(part, place, self._store))
                    continue
                self._add_copy(part, body)
                num_intact += 1
        self._report.num_rewritten += bool(num_intact)

    def _add_copy(self, part: ReferencedPart, body: bytes) -> None:
        num_bytes = sum(len(copy) for _, copy in self._copies) + len(body)
        if num_bytes > MAX_PACK_BYTES or len(self._copies) == MAX_PARTS:
            self._store_copies()
        self._copies.append((part, body))

    def _store_copies(self) -> None:
        """Store the copies as one pack, then make the rows reference it.

        The names of its entries contain the id of this sweep. So the pack's key is new, and no earlier sweep
        can have listed it.
        """
        copies, self._copies = self._copies, []
        if not copies or self._is_dry or self._fence is None:
            return
        self._require_lead()
        sweep_id = secrets.token_hex(4)
        pack = build_pack(Part(_entry_name(part, sweep_id), body) for part, body in copies)
        self._store.put(pack.key, pack.body, media_type=MEDIA_TYPE)
        moves = [Move(part, pack.key, offset) for (part, _), offset in zip(copies, pack.offsets, strict=True)]
        move_parts(self._database, moves, fence=self._fence)


def check_age(min_age: timedelta) -> timedelta:
    """Return the age if it is long enough, else raise ConfigurationError (`sweep_age_short`)."""
    if min_age < MIN_AGE:
        raise ConfigurationError(
            "packs younger than one hour may still be read or committed: give at least 1h",
            code="sweep_age_short",
        )
    return min_age


def _pages(store: Store) -> Iterator[list[ObjectEntry]]:
    """Yield the packs of the store in pages. Other objects below the prefix are left alone."""
    packs = (entry for entry in store.entries(PREFIX) if _is_pack(entry.key))
    while page := list(itertools.islice(packs, PAGE_PACKS)):
        yield page


def _is_pack(key: str) -> bool:
    match = _PACK_KEY.fullmatch(key)
    return match is not None and pack_key(match[1]) == key


def _is_sparse(references: References, entry: ObjectEntry) -> bool:
    new_bytes = references.num_bytes + references.num_parts * ENTRY_BYTES
    return (
        references.num_bytes <= MAX_LIVE_SHARE * entry.num_bytes
        and new_bytes <= MAX_NEW_SHARE * entry.num_bytes
    )


def _entry_name(part: ReferencedPart, sweep_id: str) -> str:
    """Return the name of a part in the new pack. It contains the sweep's id instead of the attempt."""
    folder = f"{part.job_id}.{sweep_id}"
    return (
        f"{folder}.statement.json" if part.name is None else f"{folder}/{entry_name(part.name, part.number)}"
    )


def _altered(part: ReferencedPart, place: Place, store: Store) -> Altered:
    error = StatementAlteredError if part.name is None else ArtifactAlteredError
    what = "its statement" if part.name is None else f"its artifact {part.name!r}"
    return Altered(
        part.job_id,
        part.custom_id,
        error.code,
        f"{what} at {place} in {store.location} does not have the digest and size that were committed",
    )

"""Compares ranking methods, which are fitted to the known part of a log and measured on the held-out part."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from jobs.documents.reading import OnNote
from jobs.errors import InputError
from jobs.rejection import Rejected
from kinds.recommendation.catalogue.columns import as_dictionary
from kinds.recommendation.catalogue.event_batches import event_batches
from kinds.recommendation.catalogue.ingest import ingest
from kinds.recommendation.catalogue.inputs import IntakeOptions
from kinds.recommendation.catalogue.interactions import UserBlock, read_block_bytes
from kinds.recommendation.catalogue.item import Item, read_catalogue_bytes
from kinds.recommendation.catalogue.item_reader import MAX_ID_CHARACTERS
from kinds.recommendation.catalogue.tally import Tally
from kinds.recommendation.ranking import measures
from kinds.recommendation.ranking.content import (
    ItemVectors,
    behaviour_features,
    content_of,
    diversity_features,
)
from kinds.recommendation.ranking.fit import fit
from kinds.recommendation.ranking.measures import Interval, interval
from kinds.recommendation.ranking.ranker import Ranker, rank_block
from kinds.recommendation.ranking.settings import RankingSettings, Rules

Mask = npt.NDArray[np.bool_]

_USERS_A_BLOCK = 1000

BLEND = "blend"
AS_LISTED = "blend, mixed"
"""The blend with the default diversity of the rules, which is what gets published."""

_ONLY_FOR_NEW = 1e-6
"""Weight of popularity for methods that cannot rank items for users without a history. It is so small that
it has an effect only for these users."""

_NO_TERMS = {
    "regression_weight": 0.0,
    "knn_weight": 0.0,
    "low_rank_weight": 0.0,
    "popularity_weight": _ONLY_FOR_NEW,
    "cold_content_weight": 0.0,
}
_MOST_NEIGHBOURS = 2000
"""Number of neighbours per item that the regression keeps. The method as published keeps all of them, which
makes no measurable difference."""

BASELINES: Mapping[str, RankingSettings] = {
    "ease": RankingSettings.model_validate(
        _NO_TERMS
        | {"regression_weight": 1.0, "ease_lambda": 200.0, "ease_dropout": 0.0, "user_exponent": 0.0}
        | {"num_neighbours": _MOST_NEIGHBOURS}
    ),
    "item-knn": RankingSettings.model_validate(
        _NO_TERMS | {"knn_weight": 1.0, "user_exponent": 0.0, "num_neighbours": 100}
    ),
    "popularity": RankingSettings.model_validate(_NO_TERMS | {"popularity_weight": 1.0}),
}
"""Methods as published: Steck 2019 with its lambda for data sets of this size, Sarwar et al. 2001, and plain
counts."""

COMPARED = ("ndcg", "recall", "map")
"""Measures whose differences between methods get confidence intervals."""


class SplitInvalidError(InputError):
    """The split does not exist, or it cannot be applied to this log."""

    code = "split_invalid"


class SplitKind(StrEnum):
    """Method of choosing the held-out part."""

    RANDOM = "random"
    """A random share of all entries, regardless of the user."""
    TEMPORAL = "temporal"
    """The latest share of all entries, including those of new users, as in a deployed system."""
    LEAVE_LAST_ONE_OUT = "leave-last-one-out"
    """The last entry of each user who has at least two entries."""


@dataclass(frozen=True, slots=True)
class Split:
    """A way to split a log, which is written on the command line as in "random:0.2"."""

    kind: SplitKind
    share: float = 0.0
    """Share of the entries that is held out; 0 for leave-last-one-out."""

    def __str__(self) -> str:
        return f"{self.kind}:{self.share:g}" if self.share else str(self.kind)


def parse_split(text: str) -> Split:
    """Parse a split as it is written on the command line. Raises SplitInvalidError.

    >>> str(parse_split("random:0.2")), str(parse_split("leave-last-one-out"))
    ('random:0.2', 'leave-last-one-out')
    """
    name, _, number = text.partition(":")
    try:
        kind = SplitKind(name)
        share = float(number) if number else 0.0
    except ValueError as error:
        raise SplitInvalidError(_advice(text)) from error
    if (kind is SplitKind.LEAVE_LAST_ONE_OUT) == bool(number) or (number and not 0 < share < 1):
        raise SplitInvalidError(_advice(text))
    return Split(kind, share)


def _advice(text: str) -> str:
    return f"{text!r} is not a way to split a log: use random:0.2, temporal:0.2 or leave-last-one-out"


@dataclass(frozen=True, slots=True, eq=False)
class Log:
    """All entries of some blocks, ordered by user and item."""

    user_ids: tuple[str, ...]
    item_ids: tuple[str, ...]
    """Sorted ids of all items."""
    users: npt.NDArray[np.int64]
    """(num_entries,): positions in user_ids; all arrays below have the same shape."""
    items: npt.NDArray[np.int64]
    times: npt.NDArray[np.int64]
    weights: npt.NDArray[np.float32]
    is_purchase: Mask


def log_of(blocks: Iterable[UserBlock]) -> Log:
    """Return the entries of all blocks as one log. Each user must be in only one block."""
    every = list(blocks)
    item_ids = tuple(sorted({item_id for block in every for item_id in block.item_ids}))
    place = {item_id: number for number, item_id in enumerate(item_ids)}
    user_ids = tuple(user_id for block in every for user_id in block.user_ids)
    items = [
        np.array([place[item_id] for item_id in block.item_ids], np.int64)[block.items] for block in every
    ]
    lengths = [np.diff(block.indptr) for block in every]
    return Log(
        user_ids,
        item_ids,
        users=np.repeat(np.arange(len(user_ids)), np.concatenate([np.zeros(0, np.int64), *lengths])),
        items=np.concatenate([np.zeros(0, np.int64), *items]),
        times=np.concatenate([np.zeros(0, np.int64), *(block.times for block in every)]),
        weights=np.concatenate([np.zeros(0, np.float32), *(block.weights for block in every)]),
        is_purchase=np.concatenate([np.zeros(0, np.bool_), *(block.is_purchase for block in every)]),
    )


def held_out(log: Log, split: Split, seed: int) -> Mask:
    """Return which entries are held out. Raises SplitInvalidError if the split needs times but none exist."""
    num = len(log.users)
    if split.kind is SplitKind.RANDOM:
        is_held_out = np.zeros(num, bool)
        is_held_out[np.random.default_rng(seed).permutation(num)[: int(num * split.share)]] = True
        return is_held_out
    if not log.times.any():
        raise SplitInvalidError(
            f"the split {split.kind} requires times, but the log has none: name the column that contains them"
        )
    if split.kind is SplitKind.TEMPORAL:
        order = np.lexsort((log.items, log.users, log.times))
        return np.isin(np.arange(num), order[num - int(num * split.share) :])
    order = np.lexsort((log.items, log.times, log.users))
    is_last = np.append(np.diff(log.users[order]) != 0, True)
    has_two = np.bincount(log.users, minlength=len(log.user_ids))[log.users[order]] > 1
    return np.isin(np.arange(num), order[is_last & has_two])


def blocks_of(log: Log, kept: Mask) -> Iterator[UserBlock]:
    """Yield the kept entries as blocks, which contain all users of the log in the log's order."""
    for begin in range(0, len(log.user_ids), _USERS_A_BLOCK):
        end = min(begin + _USERS_A_BLOCK, len(log.user_ids))
        first, last = np.searchsorted(log.users, [begin, end])
        within = first + np.flatnonzero(kept[first:last])
        yield UserBlock(
            user_ids=log.user_ids[begin:end],
            item_ids=log.item_ids,
            indptr=np.searchsorted(log.users[within], np.arange(begin, end + 1)),
            items=log.items[within].astype(np.int32),
            weights=log.weights[within],
            times=log.times[within],
            is_purchase=log.is_purchase[within],
        )


class NothingHeldOutError(InputError):
    """The split leaves no entries for measuring, or none for fitting."""

    code = "nothing_held_out"


@dataclass(frozen=True, slots=True)
class MethodFigures:
    """Measures of one method."""

    per_user: Mapping[str, Interval]
    """Averages over users of recall, ndcg, map, hit_rate, novelty and diversity."""
    coverage: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Results of all methods on one split."""

    split: str
    seed: int
    k: int
    num_users: int
    """Number of users with at least one held-out entry; only these are measured."""
    num_new_users: int
    """Number of measured users without any known interaction."""
    num_items: int
    num_known: int
    num_held_out: int
    methods: Mapping[str, MethodFigures]
    differences: Mapping[str, Mapping[str, Interval]]
    """Measures of the blend minus those of each other method, over the same users."""
    lists: Mapping[str, npt.NDArray[np.int64]] = field(repr=False)
    """Lists by method, (num_users, k): positions in the ordered ids of the items; -1 means no item."""

    def as_json(self) -> dict[str, object]:
        """Return the figures rounded to five decimals, without the lists."""

        def rounded(intervals: Mapping[str, Interval]) -> dict[str, dict[str, float]]:
            return {
                name: {key: round(number, 5) for key, number in asdict(value).items()}
                for name, value in intervals.items()
            }

        names = ("split", "seed", "k", "num_users", "num_new_users", "num_items", "num_known", "num_held_out")
        return {
            **{name: getattr(self, name) for name in names},
            "methods": {
                name: {**rounded(figures.per_user), "coverage": round(figures.coverage, 5)}
                for name, figures in self.methods.items()
            },
            "blend_minus": {name: rounded(intervals) for name, intervals in self.differences.items()},
        }


def evaluate(
    log: Log,
    items: Sequence[Item] | None,
    split: Split,
    *,
    seed: int,
    k: int,
    settings: RankingSettings,
    vectors: ItemVectors | None = None,
) -> Evaluation:
    """Compare the blend with EASE, item-kNN and popularity; without a catalogue, items have only ids.

    Raises SplitInvalidError or NothingHeldOutError.
    """
    is_held_out = held_out(log, split, seed)
    _check(is_held_out, split)
    known = _KnownPart(log, ~is_held_out, _as_sold(items, log))
    truth = _Truth.of(log, is_held_out, known.place)
    lists = {
        name: known.lists(of_method, diversity, k, vectors)[truth.users]
        for name, (of_method, diversity) in _methods(settings, with_content=bool(items)).items()
    }
    features = known.features(vectors if items else None, with_content=bool(items))
    numbers = {name: _numbers(of_method, truth, known, features) for name, of_method in lists.items()}
    return Evaluation(
        split=str(split),
        seed=seed,
        k=k,
        num_users=len(truth.users),
        num_new_users=int(np.count_nonzero(known.num_of_user[truth.users] == 0)),
        num_items=len(known.items),
        num_known=int(np.count_nonzero(~is_held_out)),
        num_held_out=int(np.count_nonzero(is_held_out)),
        methods={
            name: MethodFigures(
                {measure: interval(values) for measure, values in of_method.items()},
                measures.coverage(lists[name], len(known.items)),
            )
            for name, of_method in numbers.items()
        },
        differences=_differences(numbers),
        lists=lists,
    )


def _differences(
    numbers: Mapping[str, Mapping[str, measures.Numbers]],
) -> dict[str, dict[str, Interval]]:
    blend = numbers[BLEND]
    return {
        name: {measure: interval(blend[measure] - of_method[measure]) for measure in COMPARED}
        for name, of_method in numbers.items()
        if name != BLEND
    }


def _check(is_held_out: Mask, split: Split) -> None:
    if not is_held_out.any() or is_held_out.all():
        raise NothingHeldOutError(
            f"the split {split} of {len(is_held_out)} entries leaves no entries to fit the ranking to, or "
            "none to measure it on"
        )


def _as_sold(items: Sequence[Item] | None, log: Log) -> tuple[Item, ...]:
    """Return the catalogue with every item available, because items that are sold out today were on sale when
    the log was recorded."""
    if not items:
        return tuple(Item(id=item_id, title=item_id) for item_id in log.item_ids)
    always = {"available": True, "available_from": None, "available_until": None}
    return tuple(sorted((item.model_copy(update=always) for item in items), key=lambda item: item.id))


def _methods(settings: RankingSettings, *, with_content: bool) -> dict[str, tuple[RankingSettings, float]]:
    """Return the settings and the diversity of each method."""
    methods = {BLEND: (settings, 0.0), AS_LISTED: (settings, Rules().diversity)}
    if not with_content:
        # Items that have only ids cannot be compared by their content.
        methods = {BLEND: (settings.model_copy(update={"cold_content_weight": 0.0}), 0.0)}
    return methods | {name: (baseline, 0.0) for name, baseline in BASELINES.items()}


def evaluate_method(
    log: Log, items: Sequence[Item], split: Split, *, seed: int, k: int, settings: RankingSettings
) -> dict[str, measures.Numbers]:
    """Return one method's measures for each user with held-out entries.

    benchmarks/ranking.py uses these measures to choose the weights of the blend.
    """
    is_held_out = held_out(log, split, seed)
    known = _KnownPart(log, ~is_held_out, _as_sold(items, log))
    truth = _Truth.of(log, is_held_out, known.place)
    bare = settings.model_copy(update={"cold_content_weight": 0.0})
    lists = known.lists(bare, 0.0, k, None)[truth.users]
    return _numbers(lists, truth, known, np.zeros((len(known.items), 1), np.float32))


@dataclass(frozen=True, slots=True, eq=False)
class _Truth:
    users: npt.NDArray[np.int64]
    """Positions of the users with at least one held-out entry."""
    pairs: npt.NDArray[np.int64]
    """Sorted values of user * number of items + item, for held-out items that are in the catalogue."""
    num_held_out: npt.NDArray[np.int64]
    """(len(users),): number of each user's held-out items, including those that are not in the catalogue."""

    @classmethod
    def of(cls, log: Log, is_held_out: Mask, place: Mapping[str, int]) -> _Truth:
        users, counts = np.unique(log.users[is_held_out], return_counts=True)
        places = np.array([place.get(item_id, -1) for item_id in log.item_ids], np.int64)
        items = places[log.items[is_held_out]]
        pairs = log.users[is_held_out][items >= 0] * len(place) + items[items >= 0]
        return cls(users, np.sort(pairs), counts)


class _KnownPart:
    """The known part of a log, from which methods compute lists."""

    def __init__(self, log: Log, kept: Mask, items: Sequence[Item]) -> None:
        self.items = items
        self.place = {item.id: number for number, item in enumerate(items)}
        self.blocks: list[UserBlock] = list(blocks_of(log, kept))
        self.num_of_user = np.bincount(log.users[kept], minlength=len(log.user_ids))
        of_item = np.bincount(log.items[kept], minlength=len(log.item_ids))
        self.num_users_of_item = np.zeros(len(items), np.int64)
        for item_id, num in zip(log.item_ids, of_item.tolist(), strict=True):
            if item_id in self.place:
                self.num_users_of_item[self.place[item_id]] = num
        self._as_of = datetime.fromtimestamp(int(log.times[kept].max(initial=0)), UTC)

    def lists(
        self, settings: RankingSettings, diversity: float, k: int, vectors: ItemVectors | None
    ) -> npt.NDArray[np.int64]:
        """Return the lists of all users of the log, shape (users, k)."""
        model = fit(self.blocks, settings, self.place.keys())
        rules = Rules(list_length=k, reserve=0, diversity=diversity)
        ranker = Ranker(model, self.items, vectors, rules, settings, self._as_of)
        rows = [ranked.items for block in self.blocks for ranked in rank_block(ranker, block)]
        lists = np.full((len(rows), k), -1, np.int64)
        for user, row in enumerate(rows):
            lists[user, : len(row)] = [self.place[each.item_id] for each in row]
        return lists

    def features(self, vectors: ItemVectors | None, *, with_content: bool) -> npt.NDArray[np.float32]:
        """Return the features for similarity, from text and attributes or else from shared users."""
        if with_content:
            return diversity_features(content_of(self.items, vectors, RankingSettings().text_share))
        return behaviour_features(self.blocks, self.place)


def _numbers(
    lists: npt.NDArray[np.int64], truth: _Truth, known: _KnownPart, features: npt.NDArray[np.float32]
) -> dict[str, measures.Numbers]:
    pairs = truth.users[:, None] * len(known.items) + lists
    hits = np.isin(pairs, truth.pairs) & (lists >= 0)
    return {
        "recall": measures.recall(hits, truth.num_held_out),
        "ndcg": measures.ndcg(hits, truth.num_held_out),
        "map": measures.average_precision(hits, truth.num_held_out),
        "hit_rate": measures.hit_rate(hits),
        "novelty": measures.novelty(lists, known.num_users_of_item, int((known.num_of_user > 0).sum())),
        "diversity": measures.intra_list_diversity(lists, features),
    }


@dataclass(frozen=True, slots=True, eq=False)
class LogFiles:
    """A log and a catalogue that were read from files."""

    log: Log
    items: tuple[Item, ...] | None
    """Items of the catalogue; None if there is no catalogue, so that items have only ids."""
    counts: Mapping[str, int]
    """Counts of rows, events, items or users by code, such as unknown_item or user_cut; `Inputs.counts` of
    the ingest."""


def read_log_files(
    interactions: Path,
    catalogue: Path | None,
    intake: IntakeOptions,
    on_rejected: Callable[[Rejected], None],
    on_note: OnNote | None = None,
) -> LogFiles:
    """Ingest the files as a refresh does, but keep the resources in memory.

    Raises FileRejectedError or ColumnMappingError.
    """
    kept: dict[str, bytes] = {}

    def write(body: bytes, _media_type: str) -> str:
        sha256 = hashlib.sha256(body).hexdigest()
        kept[sha256] = body
        return sha256

    with TemporaryDirectory(prefix="pressroom-") as folder:
        inputs = ingest(
            catalogue or _ids_as_catalogue(interactions, intake, Path(folder)),
            interactions,
            options=intake,
            write=write,
            on_rejected=on_rejected,
            now=datetime.now(UTC),
            on_note=on_note,
        )
    return LogFiles(
        log_of(read_block_bytes(kept[sha256]) for sha256 in inputs.blocks),
        None if catalogue is None else read_catalogue_bytes(kept[inputs.catalogue_sha256]),
        inputs.counts,
    )


def _ids_as_catalogue(interactions: Path, intake: IntakeOptions, folder: Path) -> Path:
    """Write a catalogue with only the log's item ids; faulty lines of the log are reported later."""
    item_ids: set[str] = set()
    for batch in event_batches(interactions, intake.interaction_columns, Tally(), intake.file_options()):
        texts, _ = as_dictionary(batch.columns["item"])
        item_ids.update(pc.unique(texts).to_pylist())
    path = folder / "ids.jsonl"
    with path.open("w", encoding=intake.encoding or "utf-8") as lines:
        for item_id in sorted(item_ids):
            if 0 < len(item_id) <= MAX_ID_CHARACTERS:
                lines.write(json.dumps({"id": item_id, "title": item_id}) + "\n")
    return path

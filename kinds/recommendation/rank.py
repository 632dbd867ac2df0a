"""The stages `embed`, `fit` and `rank`: from ingested files to vectors, a ranking model and users' lists."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt

from jobs.inference import embedded
from jobs.kind import Artifact, Context, Parent, Resources, Result
from jobs.provenance import payload_digest, sha256_hex
from jobs.rejection import REFUSED, Refusal
from kinds.recommendation.catalogue.inputs import Inputs
from kinds.recommendation.catalogue.interactions import UserBlock, histories_of, only_users, read_block_bytes
from kinds.recommendation.catalogue.item import Item, read_catalogue_bytes
from kinds.recommendation.materials import (
    BINARY,
    JSON,
    PARQUET,
    load_catalogue,
    load_inputs,
    load_previous,
    parents_of,
)
from kinds.recommendation.outputs import EmbedOutput, FitOutput, RankOutput
from kinds.recommendation.payload import (
    EmbedPayload,
    FitPayload,
    Materials,
    RankPayload,
    RecommendationSettings,
)
from kinds.recommendation.ranking.content import ItemVectors, read_vectors_bytes, text_digest, text_of
from kinds.recommendation.ranking.fit import fit, read_model_bytes
from kinds.recommendation.ranking.lists import UserList, lists_bytes, read_lists_bytes
from kinds.recommendation.ranking.ranker import Ranker, rank_block
from kinds.recommendation.ranking.settings import RankingSettings, Rules
from kinds.recommendation.release import ReleaseManifest
from kinds.recommendation.versions import FIT_VERSION, RANKING_VERSION

VECTORS = "vectors.bin"
FACTS = "fit.json"
MODEL = "ranking-model.bin"
LISTS = "lists.parquet"


def embed_items(payload: EmbedPayload, settings: RecommendationSettings, context: Context) -> Result:
    """Embed a range of the catalogue. Raises the errors of the ports."""
    items = load_catalogue(context.resources, payload.inputs_sha256).items[payload.start : payload.stop]
    texts = {text_digest(text): text for text in map(text_of, items)}
    earlier = _earlier(settings, context)
    new = sorted(set(texts) - set(earlier))
    answers = embedded([texts[digest] for digest in new], context.inference, model=settings.embedder)
    vectors = {digest: earlier[digest] for digest in texts if digest in earlier}
    refused: dict[str, Refusal] = {}
    for digest, answer in zip(new, answers, strict=True):
        if isinstance(answer, Refusal):
            refused[digest] = answer
        else:
            vectors[digest] = np.asarray(answer, np.float32)
    num_embedded = len(new) - len(refused)
    num_known = len(vectors) - num_embedded
    body = ItemVectors.of(vectors).to_bytes()
    catalogue_sha256 = load_inputs(context.resources, payload.inputs_sha256).catalogue_sha256
    return Result(
        artifacts=(Artifact(name=VECTORS, media_type=BINARY, body=body, is_resource=True),),
        output=EmbedOutput(vectors_sha256=sha256_hex(body), num_embedded=num_embedded, num_known=num_known),
        metrics={"num_embedded": num_embedded, "num_known": num_known} | _refusals(items, refused),
        parents=(Parent("catalogue", "catalogue", catalogue_sha256),),
    )


def _refusals(items: Sequence[Item], refused: Mapping[str, Refusal]) -> dict[str, object]:
    """Return a metric with the items whose text the embedder refused; they are ranked without a vector."""
    if not refused:
        return {}
    by_item = {item.id: refused.get(text_digest(text_of(item))) for item in items}
    return {
        REFUSED: {item_id: asdict(refusal) for item_id, refusal in by_item.items() if refusal is not None}
    }


def _earlier(settings: RecommendationSettings, context: Context) -> dict[str, npt.NDArray[np.float32]]:
    previous = load_previous(context.resources, settings)
    if previous is None or previous.vectors_sha256 is None or previous.embedder != settings.embedder:
        return {}
    vectors = context.resources.load(previous.vectors_sha256, read_vectors_bytes)
    return dict(zip(vectors.digests, vectors.rows, strict=True))


@dataclass(frozen=True, slots=True)
class StoredBlocks:
    """Blocks of users that can be iterated repeatedly, with one in memory at a time."""

    resources: Resources
    sha256s: tuple[str, ...]

    def __iter__(self) -> Iterator[UserBlock]:
        return (read_block_bytes(self.resources.read(sha256)) for sha256 in self.sha256s)


def fit_model(payload: FitPayload, settings: RecommendationSettings, context: Context) -> Result:
    """Fit the model, or keep that of the published release. Raises the errors of the ports."""
    resources = context.resources
    inputs = load_inputs(resources, payload.inputs_sha256)
    previous = load_previous(resources, settings)
    share = _changed_share(resources, previous, inputs, settings)
    artifacts = []
    is_carried = previous is not None and share <= settings.refit_share
    if previous is not None and is_carried:
        model_sha256, fitted_inputs_sha256 = previous.model_sha256, previous.fitted_inputs_sha256
    else:
        catalogue_ids = load_catalogue(resources, payload.inputs_sha256).by_id
        body = fit(StoredBlocks(resources, inputs.blocks), settings.ranking, catalogue_ids).to_bytes()
        model_sha256, fitted_inputs_sha256 = sha256_hex(body), payload.inputs_sha256
        artifacts.append(Artifact(name=MODEL, media_type=BINARY, body=body, is_resource=True))
    vectors_sha256 = None
    if payload.vectors:
        body = _together(resources, payload.vectors).to_bytes()
        vectors_sha256 = sha256_hex(body)
        artifacts.append(Artifact(name=VECTORS, media_type=BINARY, body=body, is_resource=True))
    materials = Materials(
        inputs_sha256=payload.inputs_sha256,
        model_sha256=model_sha256,
        fitted_inputs_sha256=fitted_inputs_sha256,
        vectors_sha256=vectors_sha256,
    )
    figures = {
        "num_blocks": len(inputs.blocks),
        "is_carried": is_carried,
        "changed_share": round(share, 4),
    }
    facts = json.dumps({"materials": materials.model_dump(), **figures})
    return Result(
        artifacts=(Artifact(name=FACTS, media_type=JSON, body=facts.encode()), *artifacts),
        output=FitOutput(materials=materials, num_blocks=len(inputs.blocks), is_carried=is_carried),
        metrics=figures,
        parents=(
            Parent("catalogue", "catalogue", inputs.catalogue_sha256),
            *(Parent("interactions", f"block-{n}", sha256) for n, sha256 in enumerate(inputs.blocks)),
        ),
    )


def _together(resources: Resources, parts: tuple[str, ...]) -> ItemVectors:
    vectors: dict[str, np.ndarray] = {}
    for part in parts:
        of_part = read_vectors_bytes(resources.read(part))
        vectors.update(zip(of_part.digests, of_part.rows, strict=True))
    return ItemVectors.of(vectors)


def _changed_share(
    resources: Resources, previous: ReleaseManifest | None, inputs: Inputs, settings: RecommendationSettings
) -> float:
    """Return the share of users who have changed since the model was fitted.

    The share is 1 if the model must be fitted again anyway: there is no previous release, or its ranking
    settings or fit version differ.
    """
    if previous is None or previous.ranking != settings.ranking or previous.fit_version != FIT_VERSION:
        return 1.0
    return changed_share(resources, load_inputs(resources, previous.fitted_inputs_sha256), inputs)


def changed_share(resources: Resources, before: Inputs, now: Inputs) -> float:
    """Return the share of users who were added or removed, or whose interactions changed.

    The share is 1 if the number of blocks differs.
    """
    if len(before.blocks) != len(now.blocks):
        return 1.0
    num_changed = 0
    for old, new in zip(before.blocks, now.blocks, strict=True):
        if old != new:
            histories = [histories_of(read_block_bytes(resources.read(sha256))) for sha256 in (old, new)]
            num_changed += len({user for user, _ in histories[0].items() ^ histories[1].items()})
    return min(1.0, num_changed / max(1, before.num_users, now.num_users))


@dataclass(frozen=True, slots=True)
class _RankableRows:
    """Computes the digest of a catalogue for ranking: availability at `as_of` replaces the dates."""

    as_of: datetime

    def __call__(self, body: bytes) -> str:
        dates = {"available", "available_from", "available_until"}
        rows = [
            [item.model_dump(mode="json", exclude=dates), item.is_available(self.as_of)]
            for item in read_catalogue_bytes(body)
        ]
        return payload_digest({"rows": rows})


@dataclass(frozen=True, slots=True)
class _MakeRanker:
    """Makes the ranker of a batch, once per worker."""

    rules: str
    ranking: str
    as_of: datetime

    def __call__(self, catalogue: bytes, model: bytes, vectors: bytes | None = None) -> Ranker:
        return Ranker(
            read_model_bytes(model),
            read_catalogue_bytes(catalogue),
            None if vectors is None else read_vectors_bytes(vectors),
            Rules.model_validate_json(self.rules),
            RankingSettings.model_validate_json(self.ranking),
            self.as_of,
        )


def rank_users(payload: RankPayload, settings: RecommendationSettings, context: Context) -> Result:
    """Rank items for those users of a block whose lists are not carried over. Raises the ports' errors."""
    materials, resources = payload.materials, context.resources
    inputs = load_inputs(resources, materials.inputs_sha256)
    interactions_sha256 = inputs.blocks[payload.block]
    basis = _basis(materials, settings, context)
    block = read_block_bytes(resources.read(interactions_sha256))
    carried = _carried(payload.block, basis, block, load_previous(resources, settings), resources)
    new = [user_id for user_id in block.user_ids if user_id not in carried]
    lists = dict(carried)
    if new:
        ranker = _ranker(materials, inputs, settings, resources)
        lists |= {ranked.user_id: ranked for ranked in rank_block(ranker, only_users(block, new))}
    body = lists_bytes([lists[user_id] for user_id in block.user_ids])
    return Result(
        artifacts=(Artifact(name=LISTS, media_type=PARQUET, body=body, is_resource=True),),
        output=RankOutput(
            block=payload.block,
            interactions_sha256=interactions_sha256,
            basis=basis,
            lists_sha256=sha256_hex(body),
            num_users=len(lists),
            num_ranked=len(new),
        ),
        metrics={"num_users": len(lists), "num_ranked": len(new)},
        parents=(
            *parents_of(materials, inputs),
            Parent("interactions", f"block-{payload.block}", interactions_sha256),
        ),
    )


def _carried(
    number: int, basis: str, block: UserBlock, previous: ReleaseManifest | None, resources: Resources
) -> dict[str, UserList]:
    """Return the previous release's lists of users whose history is the same; none if the basis differs."""
    if previous is None or number >= len(previous.blocks) or previous.blocks[number].basis != basis:
        return {}
    before = previous.blocks[number]
    lists = read_lists_bytes(resources.read(before.lists_sha256))
    histories_before = histories_of(read_block_bytes(resources.read(before.interactions_sha256)))
    histories = histories_of(block)
    return {
        ranked.user_id: ranked
        for ranked in lists
        if ranked.user_id in histories and histories[ranked.user_id] == histories_before.get(ranked.user_id)
    }


def _ranker(
    materials: Materials, inputs: Inputs, settings: RecommendationSettings, resources: Resources
) -> Ranker:
    make = _MakeRanker(settings.rules.model_dump_json(), settings.ranking.model_dump_json(), settings.as_of)
    sha256s = [inputs.catalogue_sha256, materials.model_sha256, materials.vectors_sha256]
    return resources.load_together(tuple(sha256 for sha256 in sha256s if sha256), make)


def _basis(materials: Materials, settings: RecommendationSettings, context: Context) -> str:
    inputs = load_inputs(context.resources, materials.inputs_sha256)
    return payload_digest(
        {
            "version": RANKING_VERSION,
            "model": materials.model_sha256,
            "vectors": materials.vectors_sha256,
            "catalogue": context.resources.load(inputs.catalogue_sha256, _RankableRows(settings.as_of)),
            "rules": settings.rules.model_dump(mode="json"),
            "ranking": settings.ranking.model_dump(mode="json"),
        }
    )

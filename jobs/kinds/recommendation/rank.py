"""The stage `rank`: a list for each user of a block; carried over where nothing that it uses changed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from jobs.catalogue.catalogue_file import read_catalogue_bytes
from jobs.catalogue.interactions_file import read_block_bytes
from jobs.kind import Artifact, Context, Parent, Result
from jobs.kinds.recommendation.materials import JSON, PARQUET, load_inputs, load_previous, parents_of
from jobs.kinds.recommendation.payload import RankPayload, RecommendationSettings
from jobs.provenance import payload_digest, sha256_hex
from jobs.ranking.fit import read_model_bytes
from jobs.ranking.lists_file import lists_bytes
from jobs.ranking.ranker import Ranker, rank_block
from jobs.ranking.rules import Rules
from jobs.ranking.settings import RankingSettings
from jobs.ranking.vectors import read_vectors_bytes

LISTS = "lists.parquet"
CARRIED = "carried.json"

RANKING_VERSION = 1
"""Rises when the same inputs come to other lists."""


@dataclass(frozen=True, slots=True)
class _RankableRows:
    """Makes the digest of a catalogue as ranking sees it: dates count by what they mean now."""

    as_of: datetime

    def __call__(self, body: bytes) -> str:
        rows = [
            item.model_dump(mode="json", exclude={"available", "available_from", "available_until"})
            for item in read_catalogue_bytes(body)
            if item.is_available(self.as_of)
        ]
        return payload_digest({"rows": rows})


@dataclass(frozen=True, slots=True)
class _MakeRanker:
    """Makes the ranker of a batch, once a worker."""

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
    """Rank for the users of the block. Raises what the ports raise."""
    materials, resources = payload.materials, context.resources
    inputs = load_inputs(resources, materials.inputs_sha256)
    interactions_sha256 = inputs.blocks[payload.block]
    key = _ranking_key(payload, settings, context)
    facts: dict[str, object] = {
        "block": payload.block,
        "interactions_sha256": interactions_sha256,
        "ranking_key": key,
    }
    parents = (
        *parents_of(materials, inputs),
        Parent("interactions", f"block-{payload.block}", interactions_sha256),
    )
    previous = load_previous(resources, settings)
    if previous is not None and len(previous.blocks) == len(inputs.blocks):
        before = previous.blocks[payload.block]
        if before.ranking_key == key:
            facts |= {"lists_sha256": before.lists_sha256, "num_users": before.num_users, "is_carried": True}
            body = before.model_dump_json().encode()
            return Result(artifacts=(Artifact(name=CARRIED, media_type=JSON, body=body),), metrics=facts)
    make = _MakeRanker(settings.rules.model_dump_json(), settings.ranking.model_dump_json(), settings.as_of)
    wanted = [inputs.catalogue_sha256, materials.model_sha256, materials.vectors_sha256]
    ranker = resources.load_together(tuple(sha256 for sha256 in wanted if sha256), make)
    lists = rank_block(ranker, read_block_bytes(resources.read(interactions_sha256)))
    body = lists_bytes(lists)
    facts |= {"lists_sha256": sha256_hex(body), "num_users": len(lists), "is_carried": False}
    artifact = Artifact(name=LISTS, media_type=PARQUET, body=body)
    return Result(artifacts=(artifact,), metrics=facts, parents=parents)


def _ranking_key(payload: RankPayload, settings: RecommendationSettings, context: Context) -> str:
    inputs = load_inputs(context.resources, payload.materials.inputs_sha256)
    rows = context.resources.load(inputs.catalogue_sha256, _RankableRows(settings.as_of))
    return payload_digest(
        {
            "version": RANKING_VERSION,
            "interactions": inputs.blocks[payload.block],
            "model": payload.materials.model_sha256,
            "vectors": payload.materials.vectors_sha256,
            "catalogue": rows,
            "rules": settings.rules.model_dump(mode="json"),
            "ranking": settings.ranking.model_dump(mode="json"),
        }
    )

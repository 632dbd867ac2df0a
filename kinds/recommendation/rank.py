"""The stage `rank`: makes a list for each user of a block, or carries it over if nothing it uses changed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from jobs.kind import Artifact, Context, Parent, Resources, Result
from jobs.provenance import payload_digest, sha256_hex
from kinds.recommendation.catalogue.inputs import Inputs
from kinds.recommendation.catalogue.interactions import UserBlock, histories_of, only_users, read_block_bytes
from kinds.recommendation.catalogue.item import read_catalogue_bytes
from kinds.recommendation.materials import PARQUET, load_inputs, load_previous, parents_of
from kinds.recommendation.outputs import RankOutput
from kinds.recommendation.payload import Materials, RankPayload, RecommendationSettings
from kinds.recommendation.ranking.content import read_vectors_bytes
from kinds.recommendation.ranking.fit import read_model_bytes
from kinds.recommendation.ranking.lists import UserList, lists_bytes, read_lists_bytes
from kinds.recommendation.ranking.ranker import Ranker, rank_block
from kinds.recommendation.ranking.settings import RankingSettings, Rules
from kinds.recommendation.release import ReleaseManifest
from kinds.recommendation.versions import RANKING_VERSION

LISTS = "lists.parquet"


@dataclass(frozen=True, slots=True)
class _RankableRows:
    """Computes the digest of a catalogue as ranking sees it: availability at `as_of` replaces the dates."""

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
    """Rank items for the users of the block that have changed. Raises what the ports raise."""
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
        lists |= {one.user_id: one for one in rank_block(ranker, only_users(block, new))}
    body = lists_bytes([lists[user_id] for user_id in block.user_ids])
    return Result(
        artifacts=(Artifact(name=LISTS, media_type=PARQUET, body=body),),
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
    """Return the previous release's lists of users whose history has not changed."""
    if previous is None or number >= len(previous.blocks) or previous.blocks[number].basis != basis:
        return {}
    before = previous.blocks[number]
    lists = read_lists_bytes(resources.read(before.lists_sha256))
    was = histories_of(read_block_bytes(resources.read(before.interactions_sha256)))
    now = histories_of(block)
    return {
        one.user_id: one for one in lists if one.user_id in now and now[one.user_id] == was.get(one.user_id)
    }


def _ranker(
    materials: Materials, inputs: Inputs, settings: RecommendationSettings, resources: Resources
) -> Ranker:
    make = _MakeRanker(settings.rules.model_dump_json(), settings.ranking.model_dump_json(), settings.as_of)
    wanted = [inputs.catalogue_sha256, materials.model_sha256, materials.vectors_sha256]
    return resources.load_together(tuple(sha256 for sha256 in wanted if sha256), make)


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

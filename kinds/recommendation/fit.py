"""The stage `fit`: fits the ranking model to all histories, or keeps it while few of them have changed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from jobs.kind import Artifact, Context, Parent, Resources, Result
from jobs.provenance import sha256_hex
from kinds.recommendation.catalogue.inputs import Inputs
from kinds.recommendation.catalogue.interactions import UserBlock, histories_of, read_block_bytes
from kinds.recommendation.materials import BINARY, JSON, load_catalogue, load_inputs, load_previous
from kinds.recommendation.outputs import FitOutput
from kinds.recommendation.payload import FitPayload, Materials, RecommendationSettings
from kinds.recommendation.ranking.content import ItemVectors, read_vectors_bytes
from kinds.recommendation.ranking.fit import fit
from kinds.recommendation.versions import FIT_VERSION

FACTS = "fit.json"
MODEL = "ranking-model.bin"
VECTORS = "vectors.bin"


@dataclass(frozen=True, slots=True)
class StoredBlocks:
    """Blocks of users that can be iterated repeatedly, with one in memory at a time."""

    resources: Resources
    sha256s: tuple[str, ...]

    def __iter__(self) -> Iterator[UserBlock]:
        return (read_block_bytes(self.resources.read(sha256)) for sha256 in self.sha256s)


def fit_model(payload: FitPayload, settings: RecommendationSettings, context: Context) -> Result:
    """Fit the model, or keep that of the published release. Raises what the ports raise."""
    resources = context.resources
    inputs = load_inputs(resources, payload.inputs_sha256)
    previous = load_previous(resources, settings)
    share = 1.0
    same_recipe = previous is not None and previous.ranking == settings.ranking
    if previous is not None and same_recipe and previous.fit_version == FIT_VERSION:
        share = changed_share(resources, load_inputs(resources, previous.fitted_inputs_sha256), inputs)
    artifacts = []
    is_carried = previous is not None and share <= settings.refit_share
    if previous is not None and is_carried:
        model_sha256, fitted = previous.model_sha256, previous.fitted_inputs_sha256
    else:
        known = load_catalogue(resources, payload.inputs_sha256).by_id
        body = fit(StoredBlocks(resources, inputs.blocks), settings.ranking, known).to_bytes()
        model_sha256, fitted = sha256_hex(body), payload.inputs_sha256
        artifacts.append(Artifact(name=MODEL, media_type=BINARY, body=body))
    vectors_sha256 = None
    if payload.vectors:
        body = _together(resources, payload.vectors).to_bytes()
        vectors_sha256 = sha256_hex(body)
        artifacts.append(Artifact(name=VECTORS, media_type=BINARY, body=body))
    materials = Materials(
        inputs_sha256=payload.inputs_sha256,
        model_sha256=model_sha256,
        fitted_inputs_sha256=fitted,
        vectors_sha256=vectors_sha256,
    )
    figures = {
        "num_blocks": len(inputs.blocks),
        "is_carried": is_carried,
        "changed_share": round(share, 4),
    }
    facts = json.dumps({"materials": materials.model_dump(), **figures})
    told = Artifact(name=FACTS, media_type=JSON, body=facts.encode())
    return Result(
        artifacts=(told, *artifacts),
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
        read = read_vectors_bytes(resources.read(part))
        vectors.update(zip(read.digests, read.rows, strict=True))
    return ItemVectors.of(vectors)


def changed_share(resources: Resources, before: Inputs, now: Inputs) -> float:
    """Return the share of users who were added, removed or have new interactions.

    It is 1 if the number of blocks differs.
    """
    if len(before.blocks) != len(now.blocks):
        return 1.0
    num_changed = 0
    for old, new in zip(before.blocks, now.blocks, strict=True):
        if old != new:
            histories = [histories_of(read_block_bytes(resources.read(sha256))) for sha256 in (old, new)]
            num_changed += len({user for user, _ in histories[0].items() ^ histories[1].items()})
    return min(1.0, num_changed / max(1, before.num_users, now.num_users))

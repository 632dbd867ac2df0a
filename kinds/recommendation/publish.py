"""The stage `publish`: writes the manifest that names all parts of the release, which is then published."""

from __future__ import annotations

from jobs.kind import Artifact, Context, Result
from jobs.provenance import sha256_hex
from kinds.recommendation.materials import JSON, Clock, load_inputs, parents_of
from kinds.recommendation.outputs import NewRelease
from kinds.recommendation.payload import PublishPayload, RecommendationSettings
from kinds.recommendation.release import ReleaseManifest, manifest_bytes
from kinds.recommendation.versions import FIT_VERSION, code_digest

MANIFEST = "release.json"


def publish(payload: PublishPayload, settings: RecommendationSettings, context: Context) -> Result:
    """Assemble the release. Raises the errors of the ports."""
    materials = payload.materials
    inputs = load_inputs(context.resources, materials.inputs_sha256)
    sizes = {"num_items": inputs.num_items, "num_interactions": inputs.num_interactions}
    counts = payload.counts.model_copy(update=sizes)
    manifest = ReleaseManifest(
        recommender=settings.recommender,
        recommender_id=str(settings.recommender_id),
        created_at=context.port(Clock).now(),
        as_of=settings.as_of,
        inputs_sha256=materials.inputs_sha256,
        catalogue_sha256=inputs.catalogue_sha256,
        model_sha256=materials.model_sha256,
        fitted_inputs_sha256=materials.fitted_inputs_sha256,
        vectors_sha256=materials.vectors_sha256,
        embedder=settings.embedder,
        code=code_digest(settings.text_policy),
        fit_version=FIT_VERSION,
        rules=settings.rules,
        ranking=settings.ranking,
        text_policy=settings.text_policy,
        language_model=settings.language_model,
        language_model_digest=settings.language_model_digest,
        blocks=payload.blocks,
        text_index_sha256=payload.text_index_sha256,
        counts=counts,
    )
    body = manifest_bytes(manifest)
    figures = counts.model_dump()
    release = NewRelease(
        recommender_id=settings.recommender_id, manifest_sha256=sha256_hex(body), figures=figures
    )
    return Result(
        artifacts=(Artifact(name=MANIFEST, media_type=JSON, body=body, is_resource=True),),
        metrics=figures,
        records=(release,),
        parents=parents_of(materials, inputs),
    )

"""The stage `embed`: embeds items' texts that have no vector in the previous release."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np
import numpy.typing as npt

from jobs.inference import embedded
from jobs.kind import Artifact, Context, Parent, Result
from jobs.provenance import sha256_hex
from jobs.rejection import REFUSED, Refusal
from kinds.recommendation.catalogue.item import Item
from kinds.recommendation.materials import BINARY, load_catalogue, load_inputs, load_previous
from kinds.recommendation.outputs import EmbedOutput
from kinds.recommendation.payload import EmbedPayload, RecommendationSettings
from kinds.recommendation.ranking.content import ItemVectors, read_vectors_bytes, text_digest, text_of

VECTORS = "vectors.bin"


def embed_items(payload: EmbedPayload, settings: RecommendationSettings, context: Context) -> Result:
    """Embed a range of the catalogue. Raises what the ports raise."""
    items = load_catalogue(context.resources, payload.inputs_sha256).items[payload.start : payload.stop]
    texts = {text_digest(text): text for text in map(text_of, items)}
    earlier = _earlier(settings, context)
    new = sorted(set(texts) - set(earlier))
    answers = embedded([texts[digest] for digest in new], context.inference, model=settings.embedder)
    refused = {digest: one for digest, one in zip(new, answers, strict=True) if isinstance(one, Refusal)}
    found = {digest: earlier[digest] for digest in texts if digest in earlier}
    for digest, answer in zip(new, answers, strict=True):
        if not isinstance(answer, Refusal):
            found[digest] = np.asarray(answer, np.float32)
    num_embedded = len(new) - len(refused)
    body = ItemVectors.of(found).to_bytes()
    catalogue_sha256 = load_inputs(context.resources, payload.inputs_sha256).catalogue_sha256
    return Result(
        artifacts=(Artifact(name=VECTORS, media_type=BINARY, body=body),),
        output=EmbedOutput(
            vectors_sha256=sha256_hex(body), num_embedded=num_embedded, num_known=len(found) - num_embedded
        ),
        metrics={"num_embedded": num_embedded, "num_known": len(found) - num_embedded}
        | _refused(items, refused),
        parents=(Parent("catalogue", "catalogue", catalogue_sha256),),
    )


def _refused(items: Sequence[Item], refused: Mapping[str, Refusal]) -> dict[str, object]:
    """Return a metric with the items whose text the embedder refuses, which are ranked without it."""
    if not refused:
        return {}
    by_item = {item.id: refused.get(text_digest(text_of(item))) for item in items}
    return {REFUSED: {item_id: asdict(one) for item_id, one in by_item.items() if one is not None}}


def _earlier(settings: RecommendationSettings, context: Context) -> dict[str, npt.NDArray[np.float32]]:
    previous = load_previous(context.resources, settings)
    if previous is None or previous.vectors_sha256 is None or previous.embedder != settings.embedder:
        return {}
    vectors = context.resources.load(previous.vectors_sha256, read_vectors_bytes)
    return dict(zip(vectors.digests, vectors.rows, strict=True))

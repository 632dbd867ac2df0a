"""The stage `copy`: writes one text, which is stored under the key of everything it was written from."""

from __future__ import annotations

import json
from collections.abc import Mapping

from jobs.kind import Artifact, Context, Parent, Result
from jobs.provenance import payload_digest
from kinds.recommendation.history import RefreshHistory
from kinds.recommendation.materials import JSON
from kinds.recommendation.outputs import CopyOutput
from kinds.recommendation.payload import CopyPayload, RecommendationSettings
from kinds.recommendation.records import WrittenCopy
from kinds.recommendation.texts.key import copy_seed
from kinds.recommendation.texts.policy import Brief
from kinds.recommendation.texts.write import copy_template, write_copy

TEXT = "copy.json"


def read_briefs(body: bytes) -> tuple[tuple[str, Brief], ...]:
    """Return key and brief of each line of a resource."""
    rows = [json.loads(line) for line in body.decode().splitlines()]
    return tuple((row["key"], Brief.model_validate(row["brief"])) for row in rows)


def text_bytes(key: str, audience: str, text: Mapping[str, object]) -> bytes:
    """Return the artifact of a text, whose fields are in the order of CopyText."""
    return json.dumps({"key": key, "audience": audience, **text}, ensure_ascii=False, indent=2).encode()


def write_text(payload: CopyPayload, settings: RecommendationSettings, context: Context) -> Result:
    """Write the text. Raises TemplateError and what generate() raises."""
    key, brief = context.resources.load(payload.briefs_sha256, read_briefs)[payload.number]
    known_copies = context.port(RefreshHistory).known_copies((key,))
    if known_copies:  # written for another block's users in the meantime
        note = json.dumps({"key": key, "audience": brief.audience, "known": True})
        known = Artifact(name=TEXT, media_type=JSON, body=note.encode())
        return Result(artifacts=(known,), output=CopyOutput(is_known=True), metrics={"is_known": True})
    text = write_copy(brief, settings.copy_policy, context.inference, copy_seed(key))
    said = text.model_dump(mode="json")
    body = text_bytes(key, brief.audience, said)
    parents = tuple(Parent("item", item.item_id, payload_digest(item.row)) for item in brief.items)
    return Result(
        artifacts=(Artifact(name=TEXT, media_type=JSON, body=body),),
        template=copy_template(settings.copy_policy).identity,
        output=CopyOutput(is_known=False),
        metrics={
            "is_known": False,
            "origin": text.origin,
            "num_tries": text.num_tries,
            "problems": list(text.problems),
        },
        records=(WrittenCopy(key=key, audience=brief.audience, text=said),),
        parents=parents,
    )

"""The stage `brief`: finds the texts that the lists need, and those of them that are not written yet."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field

from jobs.kind import Artifact, Context, Parent, Resources, Result
from jobs.provenance import sha256_hex
from kinds.recommendation.audiences import audiences, brief_of
from kinds.recommendation.changes import Change, change_of
from kinds.recommendation.history import RefreshHistory
from kinds.recommendation.materials import JSON, JSONL, Catalogue, load_catalogue, load_previous
from kinds.recommendation.outputs import BriefOutput
from kinds.recommendation.payload import BriefPayload, RecommendationSettings
from kinds.recommendation.ranking.lists import UserList
from kinds.recommendation.ranking.lists_file import read_lists_bytes
from kinds.recommendation.releases.release import (
    CopyEntry,
    CopyIndex,
    ReleaseManifest,
    copy_index_bytes,
    read_copy_index,
)
from kinds.recommendation.texts.key import copy_key
from kinds.recommendation.texts.policy import Brief, CopyScope
from kinds.recommendation.texts.write import copy_template

INDEX = "copy-index.json"
CHANGES = "changes.jsonl"

MAX_TOLD = 20
"""Changes that the job's metrics hold as examples; all of them are in its artifact."""


@dataclass(slots=True)
class Wanted:
    """The texts that some lists need."""

    index: dict[str, CopyEntry] = field(default_factory=dict)
    briefs: dict[str, Brief] = field(default_factory=dict)
    """Briefs by key, each of the first audience that needs it."""

    def missing(self, known: Iterable[str]) -> dict[str, Brief]:
        """Return the briefs of the texts that have to be written, in a fixed order."""
        rest = set(self.briefs) - set(known)
        return {key: self.briefs[key] for key in sorted(rest)}


def brief_texts(payload: BriefPayload, settings: RecommendationSettings, context: Context) -> Result:
    """Find the texts that have to be written. Raises what the ports raise, and TemplateError."""
    catalogue = load_catalogue(context.resources, payload.materials.inputs_sha256)
    wanted = _wanted(payload, settings, context, catalogue)
    known = context.port(RefreshHistory).known_copies(tuple(wanted.briefs))
    missing = wanted.missing(known)
    changes = _changes(payload, settings, context, catalogue, wanted.index, frozenset(missing))
    lines = [
        json.dumps({"key": key, "brief": brief.model_dump()}, ensure_ascii=False)
        for key, brief in missing.items()
    ]
    briefs_sha256 = context.resources.write("\n".join(lines).encode(), media_type=JSONL) if lines else None
    body = copy_index_bytes(wanted.index)
    output = BriefOutput(
        first_block=payload.first_block,
        copy_index_sha256=sha256_hex(body),
        briefs_sha256=briefs_sha256,
        num_audiences=len(wanted.index),
        num_texts=len(wanted.briefs),
        num_to_write=len(missing),
        why=dict(Counter(str(change.why) for change in changes)),
        changes=tuple(changes[:MAX_TOLD]),
    )
    told = "".join(json.dumps(asdict(change), ensure_ascii=False) + "\n" for change in changes)
    return Result(
        artifacts=(
            Artifact(name=INDEX, media_type=JSON, body=body),
            Artifact(name=CHANGES, media_type=JSONL, body=told.encode()),
        ),
        output=output,
        metrics={
            "num_audiences": output.num_audiences,
            "num_texts": output.num_texts,
            "num_to_write": output.num_to_write,
            "why": dict(output.why),
            "changes": [asdict(change) for change in output.changes],
        },
        parents=tuple(
            Parent("lists", f"block-{number}", sha256)
            for number, sha256 in enumerate(payload.lists, start=payload.first_block)
        ),
    )


def _wanted(
    payload: BriefPayload, settings: RecommendationSettings, context: Context, catalogue: Catalogue
) -> Wanted:
    policy = settings.copy_policy
    template_sha256 = copy_template(policy).identity.sha256
    wanted = Wanted()
    lists = _lists(context.resources, payload.lists)
    for audience in audiences(lists, catalogue.by_id, policy, settings.rules):
        brief = brief_of(audience, catalogue.by_id, policy)
        key = copy_key(brief, policy, template_sha256, settings.language_model_digest)
        wanted.briefs.setdefault(key, brief)
        wanted.index[audience.name] = CopyEntry(key=key, items=audience.item_ids, because=audience.because)
    return wanted


def _lists(resources: Resources, sha256s: Sequence[str]) -> Iterator[list[UserList]]:
    return (read_lists_bytes(resources.read(sha256)) for sha256 in sha256s)


def _changes(
    payload: BriefPayload,
    settings: RecommendationSettings,
    context: Context,
    catalogue: Catalogue,
    index: CopyIndex,
    missing: frozenset[str],
) -> list[Change]:
    """Return a change for each audience whose text has to be written."""
    previous = load_previous(context.resources, settings)
    before: CopyIndex = {}
    items_before = catalogue.by_id
    if previous is not None:
        items_before = load_catalogue(context.resources, previous.inputs_sha256).by_id
        before = _index_before(context.resources, previous, settings.copy_policy.scope, payload.first_block)
    return [
        change_of(audience, entry, before.get(audience), catalogue.by_id, items_before, settings.copy_policy)
        for audience, entry in sorted(index.items())
        if entry.key in missing
    ]


def _index_before(
    resources: Resources, previous: ReleaseManifest, scope: CopyScope, first_block: int
) -> CopyIndex:
    sha256 = previous.copy_index_sha256
    if scope is CopyScope.USER:
        # After the number of blocks has changed, users may be reported as new; their texts are found anyway.
        sha256 = None
        if first_block < len(previous.blocks):
            sha256 = previous.blocks[first_block].copy_index_sha256
    return {} if sha256 is None else read_copy_index(resources.read(sha256))

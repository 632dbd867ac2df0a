"""The stage `plan_texts`: finds the texts that the lists need, and which of them are not written yet."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field

from jobs.kind import Artifact, Context, Parent, Resources, Result
from jobs.provenance import sha256_hex
from kinds.recommendation.catalogue.item import Item
from kinds.recommendation.materials import (
    JSON,
    JSONL,
    Catalogue,
    load_catalogue,
    load_previous,
)
from kinds.recommendation.outputs import Change, TextPlanOutput, Why
from kinds.recommendation.payload import RecommendationSettings, TextPlanPayload
from kinds.recommendation.ranking.lists import NEW, OTHER, RankedItem, UserList, read_lists_bytes
from kinds.recommendation.ranking.settings import Rules
from kinds.recommendation.release import (
    ReleaseManifest,
    TextEntry,
    TextIndex,
    audience_of,
    read_text_index,
    shown_items,
    text_index_bytes,
)
from kinds.recommendation.texts.text import TextPolicy, TextRequest, TextScope, text_key
from kinds.recommendation.texts.write import text_template

INDEX = "text-index.json"
CHANGES = "changes.jsonl"

MAX_LISTED = 20
"""Maximum number of changes in the job's metrics, as examples; its artifact has all changes."""


@dataclass(slots=True)
class TextRequests:
    """The texts that some lists need."""

    index: dict[str, TextEntry] = field(default_factory=dict)
    """Entry of each audience, by the audience's name."""
    requests: dict[str, TextRequest] = field(default_factory=dict)
    """Requests by the key of the text, each from the first audience that needs the text."""

    def missing(self, known: Iterable[str]) -> dict[str, TextRequest]:
        """Return the requests of the texts that have to be written, in a fixed order."""
        return {key: self.requests[key] for key in sorted(set(self.requests) - set(known))}


def plan_texts(payload: TextPlanPayload, settings: RecommendationSettings, context: Context) -> Result:
    """Find the texts that have to be written. Raises TemplateError and the errors of the ports."""
    catalogue = load_catalogue(context.resources, payload.materials.inputs_sha256)
    needed = _needed_texts(payload, settings, context, catalogue)
    known = context.kept.known(needed.requests.keys())
    missing = needed.missing(known)
    changes = _changes(payload, settings, context, catalogue, needed.index, frozenset(missing))
    lines = [
        json.dumps({"key": key, "request": request.model_dump()}, ensure_ascii=False)
        for key, request in missing.items()
    ]
    requests_sha256 = context.resources.write("\n".join(lines).encode(), media_type=JSONL) if lines else None
    body = text_index_bytes(needed.index)
    output = TextPlanOutput(
        first_block=payload.first_block,
        text_index_sha256=sha256_hex(body),
        requests_sha256=requests_sha256,
        num_audiences=len(needed.index),
        num_texts=len(needed.requests),
        num_to_write=len(missing),
        why=dict(Counter(str(change.why) for change in changes)),
        changes=tuple(changes[:MAX_LISTED]),
    )
    lines_of_changes = "".join(json.dumps(asdict(change), ensure_ascii=False) + "\n" for change in changes)
    return Result(
        artifacts=(
            Artifact(name=INDEX, media_type=JSON, body=body, is_resource=True),
            Artifact(name=CHANGES, media_type=JSONL, body=lines_of_changes.encode()),
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


def _needed_texts(
    payload: TextPlanPayload, settings: RecommendationSettings, context: Context, catalogue: Catalogue
) -> TextRequests:
    policy = settings.text_policy
    template_sha256 = text_template(policy).identity.sha256
    needed = TextRequests()
    lists = (read_lists_bytes(context.resources.read(sha256)) for sha256 in payload.lists)
    for audience in audiences(lists, catalogue.by_id, policy, settings.rules):
        items = [catalogue.by_id[item_id] for item_id in audience.item_ids]
        request = TextRequest.about(audience.name, items, audience.because, policy)
        key = text_key(request, policy, template_sha256, settings.language_model_digest)
        needed.requests.setdefault(key, request)
        needed.index[audience.name] = TextEntry(key=key, items=audience.item_ids, because=audience.because)
    return needed


def _changes(
    payload: TextPlanPayload,
    settings: RecommendationSettings,
    context: Context,
    catalogue: Catalogue,
    index: TextIndex,
    missing: frozenset[str],
) -> list[Change]:
    """Return a change for each audience whose text has to be written."""
    previous = load_previous(context.resources, settings)
    before: TextIndex = {}
    items_before = catalogue.by_id
    if previous is not None:
        items_before = load_catalogue(context.resources, previous.inputs_sha256).by_id
        before = _index_before(context.resources, previous, settings.text_policy.scope, payload.first_block)
    return [
        change_of(audience, entry, before.get(audience), catalogue.by_id, items_before, settings.text_policy)
        for audience, entry in sorted(index.items())
        if entry.key in missing
    ]


def _index_before(
    resources: Resources, previous: ReleaseManifest, scope: TextScope, first_block: int
) -> TextIndex:
    sha256 = previous.text_index_sha256
    if scope is TextScope.USER:
        # If the number of blocks has changed, users may be reported as new, but their texts keep their keys.
        sha256 = None
        if first_block < len(previous.blocks):
            sha256 = previous.blocks[first_block].text_index_sha256
    return {} if sha256 is None else read_text_index(resources.read(sha256))


@dataclass(frozen=True, slots=True, kw_only=True)
class Audience:
    """A user, segment or item that has a text."""

    name: str
    item_ids: tuple[str, ...]
    """Sorted ids of the items that the text is about."""
    because: str | None
    """Title or category on which the reason is based."""


def audiences(
    lists: Iterable[Sequence[UserList]], items: Mapping[str, Item], policy: TextPolicy, rules: Rules
) -> Iterator[Audience]:
    """Yield the audiences of these blocks of lists without repetition, reading one block at a time."""
    match policy.scope:
        case TextScope.USER:
            for block in lists:
                yield from (_of_user(user, items, policy, rules) for user in block if user.items)
        case TextScope.SEGMENT:
            yield from _of_segments(lists, policy, rules)
        case TextScope.ITEM:
            item_ids = {
                item.item_id for block in lists for user in block for item in shown_items(user, rules)
            }
            for item_id in sorted(item_ids):
                name = audience_of(TextScope.ITEM, item_id)
                yield Audience(name=name, item_ids=(item_id,), because=None)
        case TextScope.NONE:
            return


def _of_user(user: UserList, items: Mapping[str, Item], policy: TextPolicy, rules: Rules) -> Audience:
    featured = shown_items(user, rules)[: policy.featured]
    return Audience(
        name=audience_of(TextScope.USER, user.user_id),
        item_ids=tuple(sorted(ranked.item_id for ranked in featured)),
        because=_because(featured, items),
    )


def _because(featured: Sequence[RankedItem], items: Mapping[str, Item]) -> str | None:
    """Return the title of the history item from the first reason that names one; None if no reason does."""
    for ranked in featured:
        because = items.get(ranked.reason.because or "")
        if because is not None:
            return because.title
    return None


def _of_segments(lists: Iterable[Sequence[UserList]], policy: TextPolicy, rules: Rules) -> Iterator[Audience]:
    """Yield the segments as audiences, each with the items that are highest on the lists of its users.

    The ranks on the lists are discounted as in DCG (Järvelin 2002).
    """
    gains: defaultdict[str, defaultdict[str, float]] = defaultdict(lambda: defaultdict(float))
    for block in lists:
        for user in block:
            gain = gains[user.segment]
            for rank, ranked in enumerate(shown_items(user, rules)):
                gain[ranked.item_id] += 1 / math.log2(rank + 2)
    for segment in sorted(gains):
        best = sorted((-round(gain, 6), item_id) for item_id, gain in gains[segment].items())
        if best:
            yield Audience(
                name=audience_of(TextScope.SEGMENT, segment),
                item_ids=tuple(sorted(item_id for _, item_id in best[: policy.featured])),
                because=None if segment in (NEW, OTHER) else segment,
            )


def change_of(
    audience: str,
    entry: TextEntry,
    before: TextEntry | None,
    items: Mapping[str, Item],
    items_before: Mapping[str, Item],
    policy: TextPolicy,
) -> Change:
    """Return what has changed since the audience's previous text."""
    if before is None:
        return Change(audience=audience, why=Why.NEW)
    if before.key == entry.key:
        return Change(audience=audience, why=Why.MISSING)
    if before.items != entry.items:
        removed, added = set(before.items) - set(entry.items), set(entry.items) - set(before.items)
        details = {"removed": sorted(removed), "added": sorted(added)}
        return Change(audience=audience, why=Why.ITEMS, details=details)
    rows = {
        item_id: fields
        for item_id in entry.items
        if (fields := _fields(items_before.get(item_id), items[item_id], policy))
    }
    if rows:
        return Change(audience=audience, why=Why.ROW, details=rows)
    if before.because != entry.because:
        return Change(
            audience=audience, why=Why.BECAUSE, details={"before": before.because, "now": entry.because}
        )
    return Change(audience=audience, why=Why.POLICY)


def _fields(before: Item | None, now: Item, policy: TextPolicy) -> dict[str, list[object]]:
    """Return [before, now] for each changed field that texts may use."""
    was = {} if before is None else before.part(policy.fields)
    is_now = now.part(policy.fields)
    names = [name for name in policy.fields if was.get(name) != is_now.get(name)]
    return {name: [was.get(name), is_now.get(name)] for name in names}

"""Writes the difference between two releases: diff.json and diff.jsonl to process, diff.html to read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from jobs.shown import json_text
from kinds.recommendation.export.census import HashSample
from kinds.recommendation.export.comparison import (
    CatalogueChange,
    Cause,
    Causes,
    DiffSummary,
    Place,
    TextComparer,
    TextDiff,
    UserDiff,
    block_pairs,
    diff_pair,
    general_causes,
    title_of,
)
from kinds.recommendation.export.files import json_line
from kinds.recommendation.export.page import page, segment_label
from kinds.recommendation.export.rows import text_json
from kinds.recommendation.release import ReleaseReader
from pressroom.output import new_folder

DIFF_SUMMARY, DIFF_LINES, DIFF_PAGE = "diff.json", "diff.jsonl", "diff.html"

SAMPLE_USERS = 12
"""Maximum number of users, and of items, that the page shows; the users are chosen by hash."""

SAMPLE_TEXTS = 12


def compare_releases(before: ReleaseReader, after: ReleaseReader, folder: Path) -> DiffSummary:
    """Write diff.jsonl (a line for each user and text that differs), diff.json and diff.html.

    Lists are compared as they were made; later withdrawals of items make no difference. Memory holds both
    catalogues, one pair of blocks at a time and, unless texts are per user, both text indexes. Raises OSError
    and the readers' errors.
    """
    tally = _Tally()
    causes, texts = Causes(before, after), TextComparer(before, after)
    with new_folder(folder) as new:
        with (new.path / DIFF_LINES).open("w", encoding="utf-8", newline="\n") as lines:
            for pair in block_pairs(len(before.manifest.blocks), len(after.manifest.blocks)):
                pair_diff = diff_pair(pair, before, after, causes)
                tally.num_before += pair_diff.num_before
                tally.num_after += pair_diff.num_after
                tally.num_carried += pair_diff.num_texts_same
                for user in pair_diff.users:
                    lines.write(json_line(user_diff_json(user)))
                    tally.add_user(user)
                for text in texts.compare(pair_diff.texts_before, pair_diff.texts_after):
                    lines.write(json_line(text_diff_json(text)))
                    tally.add_text(text)
            if before.manifest.text_index_sha256 or after.manifest.text_index_sha256:
                for text in texts.compare(before.text_index(), after.text_index()):
                    lines.write(json_line(text_diff_json(text)))
                    tally.add_text(text)
        tally.num_carried += texts.num_carried
        summary = tally.summary(before, after)
        (new.path / DIFF_SUMMARY).write_text(json_text(summary.as_json(), indent=2) + "\n", encoding="utf-8")
        html = render_diff_page(before, after, summary, tally.sample())
        (new.path / DIFF_PAGE).write_text(html, encoding="utf-8")
        new.publish()
    return summary


def user_diff_json(user: UserDiff) -> dict[str, object]:
    """Return a user's line of diff.jsonl as JSON with stable names."""
    return {
        "type": "user",
        "user": user.user_id,
        "change": user.change,
        "segment_before": user.segment_before,
        "segment_after": user.segment_after,
        "items": [
            {
                "item": place.item_id,
                "change": place.change,
                "rank_before": place.rank_before,
                "rank_after": place.rank_after,
                "why": [cause.value for cause in place.causes],
            }
            for place in user.changed_places()
        ],
    }


def text_diff_json(text: TextDiff) -> dict[str, object]:
    """Return a text's line of diff.jsonl as JSON with stable names."""
    return {
        "type": "text",
        "audience": text.audience,
        "change": text.change,
        "why": text.why,
        "before": text_json(text.before),
        "after": text_json(text.after),
    }


@dataclass(slots=True)
class _Tally:
    """Counts and samples of the users and texts that have been compared so far."""

    num_before: int = 0
    num_after: int = 0
    num_carried: int = 0
    users: Counter[str] = field(default_factory=Counter)
    places: Counter[str] = field(default_factory=Counter)
    causes: Counter[tuple[str, ...]] = field(default_factory=Counter)
    """Number of places by change and causes."""
    gained: Counter[str] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)
    texts: Counter[str] = field(default_factory=Counter)
    text_reasons: Counter[str] = field(default_factory=Counter)
    sampled_users: HashSample[UserDiff] = field(default_factory=lambda: HashSample(SAMPLE_USERS))
    sampled_texts: HashSample[TextDiff] = field(default_factory=lambda: HashSample(SAMPLE_TEXTS))

    def add_user(self, user: UserDiff) -> None:
        self.users[user.change] += 1
        for place in user.changed_places():
            if place.change is None:
                continue
            self.places[place.change] += 1
            if user.change == "changed":
                self.causes[place.change, *(cause.value for cause in place.causes)] += 1
            self.gained[place.item_id] += place.change == "added"
            self.lost[place.item_id] += place.change == "removed"
        if user.change == "changed":
            self.sampled_users.add(user.user_id, user)

    def add_text(self, text: TextDiff) -> None:
        self.texts[text.change] += 1
        self.text_reasons[text.why] += 1
        if text.change == "changed":
            self.sampled_texts.add(text.audience, text)

    def summary(self, before: ReleaseReader, after: ReleaseReader) -> DiffSummary:
        return DiffSummary(
            before=before.number,
            after=after.number,
            num_users_before=self.num_before,
            num_users_after=self.num_after,
            num_users_new=self.users["new"],
            num_users_gone=self.users["gone"],
            num_users_changed=self.users["changed"],
            num_added=self.places["added"],
            num_removed=self.places["removed"],
            num_moved=self.places["moved"],
            causes=[
                {"change": change, "why": list(why), "places": number}
                for (change, *why), number in sorted(
                    self.causes.items(), key=lambda pair: (-pair[1], pair[0])
                )
            ],
            num_texts_new=self.texts["new"],
            num_texts_changed=self.texts["changed"],
            num_texts_gone=self.texts["gone"],
            num_texts_carried=self.num_carried,
            text_reasons=dict(sorted(self.text_reasons.items())),
            inputs=[cause.value for cause in general_causes(before.manifest, after.manifest)],
            catalogue=asdict(CatalogueChange.between(before, after)),
        )

    def sample(self) -> DiffSample:
        moved = self.gained + self.lost
        ordered = sorted(moved, key=lambda item_id: (-moved[item_id], item_id))
        return DiffSample(
            users=self.sampled_users.values(),
            texts=self.sampled_texts.values(),
            items=[(item_id, self.lost[item_id], self.gained[item_id]) for item_id in ordered[:SAMPLE_USERS]],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffSample:
    """Examples that the page shows."""

    users: Sequence[UserDiff]
    texts: Sequence[TextDiff]
    items: Sequence[tuple[str, int, int]]
    """Id of each item, number of lists that lost the item, and number that gained it; most changes first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PagePlace:
    """An item on one of the two lists."""

    title: str
    change: str | None
    words: str
    """Description of the change, with its causes unless all changes of the user share them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PagePair:
    """A user's two lists."""

    user: UserDiff
    segment: str
    why: str
    """Causes that all changes share; empty if causes differ, because each place then shows its own causes."""
    before: Sequence[PagePlace]
    after: Sequence[PagePlace]


@dataclass(frozen=True, slots=True, kw_only=True)
class PageMove:
    """An item that many lists gained or lost."""

    title: str
    num_lost: int
    num_gained: int
    price: str
    """Old and new price if the price changed, or the reason why they cannot be compared, such as "new"; empty
    if the price is unchanged."""


def render_diff_page(
    before: ReleaseReader, after: ReleaseReader, summary: DiffSummary, sample: DiffSample
) -> str:
    """Return the page as HTML; it loads nothing and runs no script."""
    return page("recommendations_diff.html.jinja").render(
        after.manifest.created_at,
        title=after.manifest.recommender or "Recommendations",
        before=before.manifest,
        after=after.manifest,
        summary=summary,
        pairs=[_pair(user, before, after) for user in sample.users],
        texts=sample.texts,
        items=[_move(item_id, lost, gained, before, after) for item_id, lost, gained in sample.items],
    )


def _pair(user: UserDiff, before: ReleaseReader, after: ReleaseReader) -> PagePair:
    old, new = (segment_label(name or "") for name in (user.segment_before, user.segment_after))
    all_causes = {place.causes for place in user.changed_places()}
    is_common = len(all_causes) == 1
    was_there = [place for place in user.places if place.rank_before is not None]

    def place_of(place: Place, *, on_both: bool) -> PagePlace:
        """Return the place as it is shown; an item on both lists is marked only on the later list."""
        title = title_of(place.item_id, after.catalogue(), before.catalogue())
        if on_both or place.change is None:
            return PagePlace(title=title, change=None, words="")
        words = {"added": "new on the list", "removed": "removed", "moved": f"was {place.rank_before}"}
        why = "" if is_common else f": {causes_words(place.causes)}"
        return PagePlace(title=title, change=place.change, words=f"{words[place.change]}{why}")

    return PagePair(
        user=user,
        segment=new if old == new else f"{old}, now {new}",
        why=causes_words(all_causes.pop()) if is_common else "",
        before=[
            place_of(place, on_both=place.rank_after is not None)
            for place in sorted(was_there, key=lambda place: place.rank_before or 0)
        ],
        after=[place_of(place, on_both=False) for place in user.places if place.rank_after is not None],
    )


def causes_words(causes: Sequence[Cause]) -> str:
    """Return causes in words.

    >>> causes_words([Cause.INTERACTIONS, Cause.MODEL])
    'their interactions changed or model refitted'
    """
    return " or ".join(cause.value for cause in causes)


def _move(item_id: str, lost: int, gained: int, before: ReleaseReader, after: ReleaseReader) -> PageMove:
    old, new = before.catalogue().get(item_id), after.catalogue().get(item_id)
    if new is None:
        price = "gone from the catalogue"
    elif not new.is_available(after.manifest.as_of):
        price = "not available"
    elif old is None:
        price = "new"
    elif old.price != new.price:
        price = f"price {_amount(old.price)}, now {_amount(new.price)}"
    else:
        price = ""
    return PageMove(
        title=title_of(item_id, after.catalogue(), before.catalogue()),
        num_lost=lost,
        num_gained=gained,
        price=price,
    )


def _amount(price: float | None) -> str:
    return "none" if price is None else f"{price:,.2f}"

"""The pages of a release and of a difference: readable, and safe whatever ids, titles and texts hold."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from kinds.recommendation.export.diff import compare_releases
from kinds.recommendation.export.files import export_release
from kinds.recommendation.ranking.lists import Reason, ReasonKind
from kinds.recommendation.release import ReleaseReader
from kinds.recommendation.texts.text import TextPolicy, TextScope
from tests.unit.kinds.recommendation.export.samples import Shelf, item, make_release, text, user_list

HOSTILE = (
    "</title></style><script>alert(1)</script>",
    '" onmouseover="alert(1)',
    "'><img src=x onerror=alert(1)>",
    "{{ 7 * 7 }}{% for x in y %}",
    "<svg/onload=alert(1)><iframe src=//example.org>",
    "]]><!--",
    "\u202egnp.exe\u0000\n\x1b[2J",
    "../../etc/passwd",
    "=HYPERLINK(1)",
)


class Elements(HTMLParser):
    """What a browser would make of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def hostile_release(number: int, scope: TextScope) -> ReleaseReader:
    """Every string that somebody gives is one of an attack."""
    shelf = Shelf()
    items = [
        item(name, title=name * 3, category=name, currency=name, attributes={name: name, "brand": name})
        for name in HOSTILE
    ]
    reason = Reason(kind=ReasonKind.CONTENT, because=HOSTILE[number], attribute="brand", share=0.5)
    lists = [user_list(name * 1000, *HOSTILE[number:], segment=name, reason=reason) for name in HOSTILE]
    index = {
        f"{scope.value}:{key}": shelf.entry(f"{key}{number}", [HOSTILE[number]], text(name))
        for name in HOSTILE
        for key in ([name] if scope is not TextScope.USER else [name * 1000])
    }
    return make_release(
        shelf,
        lists,
        items,
        number=number,
        num_blocks=2,
        policy=TextPolicy(scope=scope),
        index=index,
        history={name * 1000: list(HOSTILE) for name in HOSTILE},
    )


def check(path: Path) -> Elements:
    """No script, no handler, nothing fetched; the policy allows neither."""
    page = Elements(path.read_text(encoding="utf-8"))
    tags = {tag for tag, _ in page.tags}
    assert tags.isdisjoint({"script", "img", "iframe", "object", "base", "form", "image"})
    for tag, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on") or name == "style"], (
            tag,
            attributes,
        )
        for name in ("src", "href"):
            link = attributes.get(name) or ""
            assert re.fullmatch(r"(#[a-z0-9-]+|[a-z.]+\.(jsonl|json|html)|data:,|)", link), link
    policies = [a["content"] for _, a in page.tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert policies
    assert str(policies[0]).startswith("default-src 'none'")
    return page


@pytest.mark.parametrize("scope", TextScope)
def test_no_string_of_catalogue_log_or_model_becomes_markup(scope: TextScope, tmp_path: Path) -> None:
    export_release(hostile_release(1, scope), tmp_path, title=HOSTILE[0])
    page = check(tmp_path / "index.html")
    assert any(HOSTILE[2] in words for words in page.words)
    assert "49" not in "".join(page.words)
    compare_releases(hostile_release(1, scope), hostile_release(3, scope), tmp_path)
    assert any(HOSTILE[4] in words for words in check(tmp_path / "diff.html").words)


def test_ids_of_ten_kilobytes_are_cut(tmp_path: Path) -> None:
    export_release(
        make_release(Shelf(), [user_list("u" * 10_240, "a", segment="s" * 10_240)], [item("a")]), tmp_path
    )
    assert max(map(len, check(tmp_path / "index.html").words)) < 12_000
    assert "u" * 200 not in (tmp_path / "index.html").read_text()


def test_release_without_users_has_a_page_that_says_so(tmp_path: Path) -> None:
    export_release(make_release(Shelf(), [], [item("a")]), tmp_path)
    assert "nobody in it" in (tmp_path / "index.html").read_text()


def test_each_text_is_marked_with_its_origin(tmp_path: Path) -> None:
    shelf = Shelf()
    index = {
        "segment:boots": shelf.entry("b", ["a"], text("Boots, written")),
        "segment:tents": shelf.entry("t", ["a"], None),
    }
    lists = [user_list("ann", "a", segment="boots"), user_list("bob", "a", segment="tents")]
    export_release(make_release(shelf, lists, [item("a")], index=index), tmp_path)
    html = (tmp_path / "index.html").read_text()
    boots, tents = html.index("Boots, written"), html.rindex('<div class="text template">')
    assert "written by a model" in html[boots:tents]
    assert "plain template" in html[tents:]
    assert "50%" in html


def test_page_shows_the_users_past_newest_first_and_prices(tmp_path: Path) -> None:
    items = [
        item("a", title="Alpine tent", price=1299.5),
        item("b", title="Lantern"),
        item("c", title="Rope"),
    ]
    release = make_release(Shelf(), [user_list("ann", "a")], items, history={"ann": ["c", "b"]})
    export_release(release, tmp_path)
    words = " ".join("".join(check(tmp_path / "index.html").words).split())
    assert "Recently: Rope · Lantern" in words
    assert "1,299.50 EUR" in words


def test_same_release_gives_the_same_page(tmp_path: Path) -> None:
    release = make_release(Shelf(), [user_list(f"u{n}", "a") for n in range(50)], [item("a")], num_blocks=4)
    export_release(release, tmp_path)
    first = (tmp_path / "index.html").read_bytes()
    export_release(release, tmp_path)
    assert (tmp_path / "index.html").read_bytes() == first


def test_segments_beyond_the_bound_are_counted_and_new_users_stay(tmp_path: Path) -> None:
    lists = [user_list(f"u{n}", "a", segment=f"s{n // 2}") for n in range(60)]
    lists.append(user_list("newcomer", "a", segment="new"))
    export_release(make_release(Shelf(), lists, [item("a")]), tmp_path)
    html = (tmp_path / "index.html").read_text()
    assert "and 14 smaller ones" in html
    assert "New users, without a history" in html

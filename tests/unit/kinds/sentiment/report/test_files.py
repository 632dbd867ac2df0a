"""The files of a report: complete, deterministic, and safe whatever documents contain."""

from __future__ import annotations

import hashlib
import html
import json
import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from markdown_it import MarkdownIt

from kinds.sentiment.report.files import (
    Report,
    chart_words,
    counted_digest,
    counted_lines,
    counted_parent,
    escape_markdown,
    make_report,
)
from tests.unit.kinds.sentiment.report.samples import LAST, counted, facts, window

HOSTILE = (
    "<script>alert(1)</script> Northvale",
    "</blockquote><img src=x onerror=alert(1)>",
    "[click](javascript:alert(1)) ![x](http://example.org/x.png)",
    "# heading | cell | *bold* `code` <b>",
    "{{ 7 * 7 }} {% raw %}",
)


class Elements(HTMLParser):
    """The elements of a page and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.attributes.update(name for name, _ in attrs)

    def handle_data(self, data: str) -> None:
        self.text += data


def report(*texts: str, name: str = "Northvale Steel") -> dict[str, bytes]:
    made = make_report(facts(texts=texts or ("Cuts forecast",), name=name), None, model=None, seed=1)
    return {artifact.name: artifact.body for artifact in made.artifacts}


def test_report_has_its_six_artifacts_with_markdown_first() -> None:
    made = make_report(facts(), None, model=None, seed=1)

    assert [artifact.name for artifact in made.artifacts] == [
        *("report.md", "report.html", "report.json", "chart.svg", "chart.png", "documents.jsonl"),
    ]
    assert made.metrics["num_alerts"] == 1
    assert json.dumps(made.metrics)


def test_same_facts_make_the_same_bytes_in_any_thread() -> None:
    def make(_: int) -> Report:
        return make_report(facts(), None, model=None, seed=1)

    with ThreadPoolExecutor(4) as pool:
        reports = list(pool.map(make, range(6)))

    assert all(each == reports[0] for each in reports)


@pytest.mark.parametrize("text", HOSTILE)
def test_documents_and_names_are_text_in_html_and_never_markup(text: str) -> None:
    parser = Elements()
    parser.feed(report(text, name=text[:100])["report.html"].decode())

    assert not parser.names & {"script", "img", "iframe", "object", "form"}
    assert not any(name.startswith("on") for name in parser.attributes)
    assert text in parser.text


@pytest.mark.parametrize("text", HOSTILE)
def test_documents_are_text_in_markdown(text: str) -> None:
    markdown = MarkdownIt("commonmark", {"html": True}).enable("table")
    parser = Elements()
    parser.feed(markdown.render(report(text)["report.md"].decode()))

    assert not parser.names & {"script", "a", "code", "iframe"}
    assert text in parser.text


@pytest.mark.parametrize("text", HOSTILE)
def test_escaped_markdown_shows_the_text_as_it_is(text: str) -> None:
    parser = Elements()
    parser.feed(MarkdownIt("commonmark", {"html": True}).render(f"A {escape_markdown(text)}"))

    assert parser.text.strip() == f"A {text}"
    assert parser.names == {"p"}


@pytest.mark.attack("control characters in a name or a text")
def test_names_and_texts_that_act_on_a_terminal_are_written_out_in_every_format() -> None:
    made = report("Cuts\u202e \x9bforecast\u2028 to zero", name="North\u202evale\x9b Steel")
    for name in ("report.md", "report.html", "report.json"):
        text = made[name].decode()
        assert not {"\u202e", "\x9b", "\u2028"} & set(text), name
        assert "North\\u202evale" in text.replace("\\\\u", "\\u"), name


def test_html_fetches_nothing_and_has_the_chart_in_it() -> None:
    page = html.unescape(report()["report.html"].decode())

    assert "default-src 'none'" in page
    assert page.count("<svg") >= 2
    assert "src=" not in page
    assert "<?xml" not in page


def test_report_of_an_open_window_says_so_and_leaves_the_usual_volume_out() -> None:
    given = facts(known_until=LAST + timedelta(hours=4, minutes=51))
    artifacts = make_report(given, None, model=None, seed=1).artifacts
    made = {one.name: one.body.decode() for one in artifacts if one.name.startswith("report.")}

    assert made["report.md"].startswith(
        "# Northvale Steel: 1 March 2026, so far, up to 04:51\n\nOn 1 March 2026 there were 12 documents"
    )
    assert "| | This day so far | Its past |" in made["report.md"]
    assert "| Documents | 12 | – |" in made["report.md"]
    assert "1 March 2026, so far, up to 04:51, UTC" in made["report.html"]
    assert '<th scope="row">Documents</th><td>12</td><td>–</td>' in made["report.html"]
    assert json.loads(made["report.json"])["open_until"] == "2026-03-01T04:51:00Z"


def test_caption_of_the_chart_knows_no_negative_zero() -> None:
    given = facts()
    low, high = (replace(given.window, mean_score=score) for score in (-0.001, 0.01))
    calm = replace(given, history=(low, high))

    assert "the score lies between 0.00 and +0.01;" in chart_words(calm)


def test_json_holds_all_facts_and_what_was_dropped() -> None:
    record = json.loads(report()["report.json"])

    assert record["window"]["num_documents"] == 12
    assert record["alerts"][0]["key"] == "northvale-steel/surge/day/2026-03-01T00:00:00Z"
    assert record["drivers"][0]["document_id"] == "d0"
    assert len(record["history"]) == 60
    assert record["summary"]["dropped"] == []
    assert record["neighbours"][0]["name"] == "Halden <b>Foods</b>"


@pytest.mark.parametrize(
    ("num_counted", "said"),
    [
        (0, "No document was counted."),
        (1, "1 document was counted; the report's *.documents.jsonl lists it"),
        (3, "3 documents were counted, 2 as follow-ups; the report's *.documents.jsonl lists them"),
    ],
)
def test_page_and_markdown_say_how_many_documents_were_counted(num_counted: int, said: str) -> None:
    given = facts(num_counted=num_counted)
    artifacts = {one.name: one.body for one in make_report(given, None, model=None, seed=1).artifacts}
    parser = Elements()
    parser.feed(artifacts["report.html"].decode())
    digest = counted_digest(given.counted)

    assert said in parser.text
    assert said in artifacts["report.md"].decode()
    assert (digest in parser.text) == (digest in artifacts["report.md"].decode()) == (num_counted > 0)
    assert json.loads(artifacts["report.json"])["counted"] == {"num_documents": num_counted, "sha256": digest}
    assert artifacts["documents.jsonl"].count(b"\n") == num_counted


def test_chart_is_well_formed_and_says_its_time_zone() -> None:
    artifacts = report(name="$ACME_1$ <Steel> & Co")

    root = ElementTree.fromstring(artifacts["chart.svg"])
    text = " ".join(element.text or "" for element in root.iter())
    assert "Time zone UTC" in text
    assert "surge of negatives" in text
    assert b"<dc:date>" not in artifacts["chart.svg"]
    assert artifacts["chart.png"].startswith(b"\x89PNG")


IDS = ["b", "a", "Ä", "\N{ROCKET}", "https://example.com/?a=1&b=2", "with space", 'quo"te', "\ufb00"]


def test_file_and_digest_are_the_same_in_any_order() -> None:
    documents = [counted(id_) for id_ in IDS]
    shuffled = random.Random(1).sample(documents, len(documents))

    assert counted_lines(shuffled) == counted_lines(documents)
    assert counted_digest(shuffled) == counted_digest(documents)


def test_digest_can_be_computed_from_the_file_alone() -> None:
    documents = [counted(id_) for id_ in IDS]

    rows = [json.loads(line) for line in counted_lines(documents).decode().split("\n") if line]

    assert [row["document_id"] for row in rows] == sorted(IDS, key=str.encode)
    again = hashlib.sha256()
    for row in rows:
        again.update(f"{row['sha256']} {row['document_id']}\n".encode())
    assert again.hexdigest() == counted_digest(documents)


def test_digest_is_another_for_another_version_of_one_document() -> None:
    documents = [counted("a"), counted("b")]

    assert counted_digest(documents) != counted_digest([counted("a"), counted("b", sha256="2" * 64)])
    assert counted_digest(documents) != counted_digest(documents[:1])


def test_numbers_in_the_file_are_exact() -> None:
    document = counted("a", p_negative=0.1 + 0.2, p_positive=1 / 3)

    row = json.loads(counted_lines([document]))

    assert (row["p_negative"], row["p_positive"]) == (0.1 + 0.2, 1 / 3)
    assert row["score"] == document.score
    assert row["published_at"] == "2026-03-01T00:00:00Z"


def test_parent_is_named_after_the_window() -> None:
    parent = counted_parent(window(LAST), [counted("a")])

    assert (parent.role, parent.name) == ("documents", "northvale-steel/day/2026-03-01T00:00:00Z")
    assert parent.sha256 == hashlib.sha256(f"{'1' * 64} a\n".encode()).hexdigest()

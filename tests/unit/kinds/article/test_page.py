"""The result page: whole, readable, and safe whatever a model or a user wrote."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html import unescape
from html.parser import HTMLParser
from uuid import UUID

import pytest

from jobs.batch import BatchStatus, BatchStatusReport, JobCounts
from jobs.inference import FinishReason, Sampling, Usage
from jobs.kind import Template
from jobs.provenance import CodeFacts, EngineFacts, Generation, JobFacts, ModelFacts, Subject
from jobs.provenance import Provenance as Statement
from kinds.article import page
from kinds.article.page import PageArticle, PageSummary, article_html, read_provenance
from kinds.article.page import render_articles_page as render
from kinds.article.quality import ArticleMetrics, Quality
from pressroom.pages import PageFailure
from pressroom.summary import Summary

AT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)

HOSTILE_MARKDOWN = """---
title: "x"
---

# <script>alert(1)</script>

<script>alert(1)</script>
<img src=x onerror=alert(1)>

![picture](https://example.org/tracker.png) [link](javascript:alert(1)) [data](data:text/html,<b>x</b>)
<javascript:alert(1)> <svg/onload=alert(1)>

| a | b |
|---|---|
| <iframe src="//example.org"></iframe> | <style>*{display:none}</style> |

## </article></main><script>alert(1)</script>
"""

HOSTILE_TEXTS = (
    "</title><script>alert(1)</script>",
    '" autofocus onfocus="alert(1)',
    "'><img src=x onerror=alert(1)>",
    "{{ 7 * 7 }}</style></script><script>alert(1)</script>",
)


class Elements(HTMLParser):
    """What a browser would make of the page: its elements, and the text of some."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {"script": [], "style": [], "title": []}
        self._open: str | None = None
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self._open = tag if tag in self.texts else None

    def handle_endtag(self, tag: str) -> None:
        self._open = None

    def handle_data(self, data: str) -> None:
        if self._open:
            self.texts[self._open].append(data)

    def of(self, *tags: str) -> list[dict[str, str | None]]:
        """The attributes of the elements of these tags."""
        return [attributes for tag, attributes in self.found if tag in tags]


def metrics(**values: object) -> ArticleMetrics:
    given: dict[str, object] = {
        "title": "Bread",
        "requested_words": 100,
        "num_words": 90,
        "is_within_length": True,
        "repetition": 0.02,
        "is_within_repetition": True,
        "requested_language": "en-GB",
        "detected_language": "en",
        "num_turns": 3,
    }
    return ArticleMetrics.model_validate(given | values)


def article(
    number: int = 0,
    *,
    markdown: str = "---\ntitle: x\n---\n\n# Bread\n\nBread needs time.\n",
    **values: object,
) -> PageArticle:
    return PageArticle(
        custom_id=f"line-{number}",
        job_id=str(UUID(int=number)),
        anchor=f"line-{number}",
        markdown=markdown,
        metrics=metrics(**values),
        provenance=read_provenance(statement()),
        file=f"articles/line-{number}.md",
        json_file=f"articles/line-{number}.json",
    )


def summary(
    *, name: str = "briefs.csv", model: str = "small", failures: Sequence[PageFailure] = (), **counts: int
) -> PageSummary:
    report = BatchStatusReport(
        batch_id=UUID(int=7),
        name=name,
        kind="article",
        model=model,
        profile="default",
        status=BatchStatus.FINISHED,
        counts=JobCounts(**({"succeeded": 1} | counts)),
        usage=Usage(3000, 400, 1234),
        created_at=AT,
        first_claim_at=AT,
        last_commit_at=AT + timedelta(seconds=10),
        top_errors=(),
        waiting_reason=None,
    )
    return PageSummary(
        run=Summary(report=report, elapsed_seconds=20, startup_seconds=5),
        quality=Quality(num_articles=1, num_within_length=1, num_within_repetition=1),
        failures=failures,
        rejected_file=None,
    )


def statement() -> bytes:
    job = JobFacts(
        id=UUID(int=1),
        batch_id=UUID(int=7),
        custom_id="line-0",
        kind="article",
        kind_version="1",
        attempt=2,
        celery_task_id="task-of-it",
        worker_id="worker-of-it",
        worker_device="cuda:1",
        queued_at=AT,
        started_at=AT + timedelta(seconds=1),
        finished_at=AT + timedelta(seconds=4.5),
    )
    generation = Generation(
        prompt_sha256="a" * 64,
        output_sha256="b" * 64,
        sampling=Sampling(max_new_tokens=9, seed=4711),
        usage=Usage(20, 10, 9),
        finish_reason=FinishReason.STOP,
        num_near_ties=0,
    )
    return Statement(
        subjects=(Subject("article.md", "c" * 64),),
        job=job,
        input_sha256="d" * 64,
        template=Template("article", "1", "e" * 64),
        model=ModelFacts(
            name="small",
            source="tests",
            revision="0.1.2",
            weights_sha256="f" * 64,
            tokenizer_sha256="0" * 64,
            chat_template_sha256="1" * 64,
        ),
        engine=EngineFacts(
            name="fake", versions=(), dtype="float32", device="cpu", attention="none", num_slots=4
        ),
        generations=(generation, generation),
        code=CodeFacts("0.1.0", "unknown"),
    ).canonical_bytes()


def text_of(html: str) -> str:
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", html)))


@pytest.mark.attack("script in a model's output")
def test_nothing_that_a_model_or_a_user_wrote_becomes_script() -> None:
    for text in HOSTILE_TEXTS:
        failure = PageFailure(custom_id=text, status="failed", error_code=text, error_message=text)
        hostile = replace(
            article(markdown=HOSTILE_MARKDOWN, title=text, flags=[text], requested_language=text),
            custom_id=text,
        )
        elements = Elements(render(summary(name=text, model=text, failures=[failure], failed=1), [hostile]))
        assert len(elements.of("script")) == 1
        assert not elements.of("img", "iframe", "object", "embed", "base", "form")
        assert (len(elements.of("style")), len(elements.of("svg"))) == (1, 1)
        assert not [link for link in elements.of("a") if (link["href"] or "").startswith("data:")]
        for tag, attributes in elements.found:
            assert not [name for name in attributes if name.startswith("on") or name == "autofocus"], tag
            target = attributes.get("href") or attributes.get("src") or ""
            assert not re.match(r"(?i)\s*(javascript|vbscript)", target), target
        assert text in "".join(elements.texts["title"])


@pytest.mark.attack("control characters in a name or a text")
def test_what_turns_text_around_or_acts_on_a_terminal_is_written_out_on_a_page() -> None:
    acting = "a\u202eb\x9bc\u2066d"
    failure = PageFailure(custom_id=acting, status="failed", error_code=acting, error_message=acting)
    html = render(
        summary(name=acting, model=acting, failures=[failure], failed=1),
        [article(title=acting, markdown=f"# x\n\n{acting}\n\nfamily: \U0001f469\u200d\U0001f467\n")],
    )
    assert html.count("a\\u202eb\\u009bc\\u2066d") >= 5
    assert "\U0001f469\u200d\U0001f467" in html
    assert not {"\u202e", "\x9b", "\u2066"} & set(html)


def test_what_was_written_is_shown_as_text_and_not_lost() -> None:
    html = render(summary(), [article(title="Fish & <b>chips</b>", markdown="Costs < 9 <b>pounds</b>.")])
    assert "Fish &amp; &lt;b&gt;chips&lt;/b&gt;" in html
    assert "Costs &lt; 9 &lt;b&gt;pounds&lt;/b&gt;." in html


def test_the_page_fetches_nothing_and_its_policy_knows_its_own_script_and_style_only() -> None:
    elements = Elements(render(summary(), [article()]))
    links = elements.of("link", "script", "img", "source", "video", "audio")
    assert [link.get("href") or link.get("src") for link in links] == ["data:,", None]
    (policy,) = [meta["content"] for meta in elements.of("meta") if meta.get("http-equiv")]
    assert policy is not None
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    for tag in ("script", "style"):
        digest = hashlib.sha256("".join(elements.texts[tag]).encode()).digest()
        assert f"{tag}-src 'sha256-{base64.b64encode(digest).decode()}'" in policy
    assert "@import" not in elements.texts["style"][0]
    assert "url(" not in elements.texts["style"][0]


def test_front_matter_and_title_are_not_part_of_the_body() -> None:
    assert article_html('---\ntitle: "A"\nid: "b"\n---\n\n# A\n\nOne.\n\n## B\n\nTwo.\n') == (
        "<p>One.</p>\n<h3>B</h3>\n<p>Two.</p>\n"
    )
    assert article_html("One.\n\n---\n\nTwo.\n\n---\n") == "<p>One.</p>\n<hr>\n<p>Two.</p>\n<hr>\n"


@pytest.mark.parametrize("markdown", ["", "---\n", "---\ntitle: x\n---\n", "# ", "\x00", "# A\n"])
def test_an_article_without_a_body_is_an_empty_one(markdown: str) -> None:
    assert not article_html(markdown).striptags().strip("\ufffd")


def test_an_article_names_its_files_and_how_it_was_made() -> None:
    html = render(summary(), [article()])
    text = text_of(html)
    hrefs = [link["href"] for link in Elements(html).of("a")]
    assert {"#line-0", "articles/line-0.md", "articles/line-0.json"} <= set(hrefs)
    assert "small, revision 0.1.2" in text
    assert f"sha256 {'f' * 16} " in text
    assert "18 new in 2 calls, 40 in prompts, 20 of them shared" in text
    assert "seed 4711" in text
    assert "worker-of-it, attempt 2, task task-of-it" in text
    assert "1 March 2026, 12:00 UTC, took 3.5 s" in text


@pytest.mark.parametrize("body", [None, b"{}", json.dumps({"predicateType": "urn:other:2"}).encode()])
def test_a_statement_that_is_absent_or_of_another_version_is_said(body: bytes | None) -> None:
    without = replace(article(), provenance=read_provenance(body))
    assert "This page cannot read a statement of how it was made" in render(summary(), [without])


def test_what_differs_from_the_request_is_marked() -> None:
    text = text_of(
        render(
            summary(succeeded=2),
            [
                article(0),
                article(
                    1,
                    num_words=30,
                    is_within_length=False,
                    repetition=0.5,
                    is_within_repetition=False,
                    detected_language="fr",
                    flags=["html_sanitised"],
                ),
            ],
        )
    )
    for badge in ("30 words of 100", "50% repeated", "French instead of English", "HTML removed"):
        assert badge in text
    for name in ("Length off", "Repetitive", "Other language", "Flagged"):
        assert f"{name} 1" in text
    assert article(0).remarks == ()
    assert article(1, detected_language=None).remarks == ("language",)


def test_figures_of_the_batch_are_at_the_top() -> None:
    given = replace(
        summary(succeeded=26, failed=1, queued=2, rejected=3),
        quality=Quality(num_articles=26, num_within_length=24, num_within_repetition=25),
        rejected_file="rejected.jsonl",
    )
    html = render(given, [article()])
    text = text_of(html)
    for figure in ("26 of 29", "24 of 26", "25 of 26", "123 tokens/s", "1,234 written in 10.0", "40%", "10%"):
        assert figure in text
    assert "26 succeeded, 2 queued, 1 failed; 3 lines" in text
    assert 'href="rejected.jsonl"' in html
    assert f"--batch {UUID(int=7)}" in text


def test_jobs_without_an_article_are_listed_with_their_errors() -> None:
    failures = [
        PageFailure(
            custom_id="line-9", status="failed", error_code="article_empty", error_message="nothing of 4"
        ),
        PageFailure(custom_id="line-10", status="cancelled", error_code=None, error_message=None),
    ]
    text = text_of(render(summary(failures=failures, failed=1, cancelled=6), [article()]))
    assert "line-9 failed article_empty nothing of 4" in text
    assert "line-10 cancelled" in text
    assert "7 jobs ended without an article; the first 2 are here" in text


def test_a_page_without_any_article_says_so() -> None:
    given = replace(summary(succeeded=0, failed=1), quality=Quality())
    text = text_of(render(given, []))
    assert "No article has been written yet." in text
    assert "0 of 1" in text


def test_the_page_ends_at_its_limit_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "MAX_PAGE_ARTICLES", 3)
    given = replace(summary(succeeded=1200), quality=Quality(num_articles=1200))
    html = render(given, [article(number) for number in range(4)])
    assert len(Elements(html).of("article")) == 3
    assert "shows the first 3 of 1,200 articles" in text_of(html)
    assert 'href="results.jsonl"' in html

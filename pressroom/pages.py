"""HTML pages for people: files that load nothing else and share one frame.

A page is a template that extends `page.html.jinja` in pressroom/templates and adds a style to that of the
frame. The text on a page comes from models, users and authors of documents. So everything is escaped, and the
content security policy allows only the page's own style and script, by their digests.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.resources import files

import jinja2
from markupsafe import Markup

from db.reports import JobResult
from jobs.shown import page_text, plural
from pressroom.summary import Summary

MAX_PAGE_FAILURES = 200
"""Maximum number of listed jobs without a result; failed.jsonl has all of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A template of a package, with its style and script, in the package's folder `pages`."""

    package: str
    template: str
    style: str
    script: str | None = None
    filters: Mapping[str, Callable[..., object]] = field(default_factory=dict)
    """Filters of this template, in addition to `number`, `plural` and `moment`."""
    has_inline_styles: bool = False
    """Whether elements have `style` attributes, as in a chart; the policy then allows them."""

    def render(self, at: datetime, **values: object) -> str:
        """Return the page as HTML; `at` is the instant shown in its header."""
        environment = jinja2.Environment(
            loader=jinja2.ChoiceLoader(
                [jinja2.PackageLoader(self.package, "pages"), jinja2.PackageLoader("pressroom", "templates")]
            ),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            finalize=page_text,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.filters.update({"number": number, "plural": plural, "moment": moment, **self.filters})
        frame = (files("pressroom") / "templates" / "page.css").read_text(encoding="utf-8")
        style = frame + self._read(self.style)
        script = "" if self.script is None else self._read(self.script)
        return environment.get_template(self.template).render(
            at=at,
            style=Markup(style),  # noqa: S704 - files of these packages
            script=Markup(script),  # noqa: S704
            policy=_policy(style, script, has_inline_styles=self.has_inline_styles),
            **values,
        )

    def _read(self, name: str) -> str:
        return (files(self.package) / "pages" / name).read_text(encoding="utf-8")


@dataclass(frozen=True, slots=True, kw_only=True)
class PageFailure:
    """One job without a result, as a page lists it."""

    custom_id: str
    status: str
    error_code: str | None
    error_message: str | None

    @classmethod
    def of(cls, job: JobResult) -> PageFailure:
        """Return the failure of a job that ended without a result."""
        return cls(
            custom_id=job.custom_id,
            status=job.status.value,
            error_code=job.error_code,
            error_message=job.error_message,
        )


def page_failures(summary: Summary, failures: Iterator[PageFailure]) -> tuple[PageFailure, ...]:
    """Return the results that are left out and then the failures, at most MAX_PAGE_FAILURES in all.

    `failures` is read to its end, because reading it also writes failed.jsonl.
    """
    altered = (
        PageFailure(
            custom_id=each.custom_id, status="left out", error_code=each.code, error_message=each.reason
        )
        for each in summary.altered
    )
    shown = list(itertools.islice(failures, MAX_PAGE_FAILURES))
    for _ in failures:  # the others are written, but not shown
        pass
    return tuple(itertools.islice(itertools.chain(altered, shown), MAX_PAGE_FAILURES))


def number(value: float) -> str:
    """Round a number to a whole one and write it with thousands separators.

    >>> number(1234567)
    '1,234,567'
    """
    return f"{value:,.0f}"


def moment(at: datetime) -> str:
    """Return an instant in UTC, as people write it.

    >>> moment(datetime(2026, 3, 1, 12, tzinfo=UTC))
    '1 March 2026, 12:00 UTC'
    """
    utc = at.astimezone(UTC)
    return f"{utc.day} {utc:%B %Y, %H:%M} UTC"


def _policy(style: str, script: str, *, has_inline_styles: bool) -> str:
    """Return a Content-Security-Policy that allows only this style and script, by their digests."""
    styles = "'unsafe-inline'" if has_inline_styles else _source(style)
    scripts = f"script-src {_source(script)}; " if script else ""
    return (
        f"default-src 'none'; style-src {styles}; {scripts}img-src data:; base-uri 'none'; form-action 'none'"
    )


def _source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

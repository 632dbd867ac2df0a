"""The chart of a report: score with interval, number of documents with the negative ones, and alerts.

Each chart is drawn on its own figure under one lock, because matplotlib's caches are not thread-safe and jobs
run in several threads. Equal facts give equal bytes.
"""

from __future__ import annotations

import io
import math
import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import matplotlib
from matplotlib.artist import Artist
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from kinds.sentiment.report.facts import ReportFacts
from kinds.sentiment.report.prose import RULE_NAMES
from kinds.sentiment.series.policy import AlertRule
from kinds.sentiment.series.time_windows import EntityWindow, WindowSize

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, SOFT, RULE = "#1f1c18", "#6a6359", "#dcd6ca"
BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "#b9b4aa"
"""Okabe and Ito's palette for colour-blind readers; the alerts differ in shape, too."""

MARKERS = {AlertRule.SURGE: "v", AlertRule.SLIDE: "D", AlertRule.SILENCE: "s", AlertRule.REVERSAL: "^"}

PIXELS_PER_INCH = 144
SIZE_INCHES = (8.0, 4.4)

_STEP = {
    WindowSize.HOUR: timedelta(hours=1),
    WindowSize.DAY: timedelta(days=1),
    WindowSize.WEEK: timedelta(weeks=1),
}
_SETTINGS: dict[Any, Any] = {
    "svg.hashsalt": "pressroom",  # ids in the file are derived from it
    "svg.fonttype": "none",  # text stays text: searchable, read aloud, a third of the size
    "text.parse_math": False,  # "$ACME" is a ticker
    "font.family": ["DejaVu Sans"],
    "font.size": 9.0,
}
_drawing = threading.Lock()


def draw_chart(facts: ReportFacts) -> tuple[bytes, bytes]:
    """Return the chart as SVG and as PNG. Any thread may call it."""
    with _drawing, matplotlib.rc_context(_SETTINGS):
        figure = _figure(facts)
        svg, png = io.BytesIO(), io.BytesIO()
        figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": "Pressroom"})
        figure.savefig(png, format="png", dpi=PIXELS_PER_INCH, metadata={"Software": "Pressroom"})
    return svg.getvalue(), png.getvalue()


def _figure(facts: ReportFacts) -> Figure:
    figure = Figure(figsize=SIZE_INCHES, facecolor="white")
    figure.subplots_adjust(left=0.085, right=0.985, top=0.93, bottom=0.115, hspace=0.24)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    times = [_middle(window) for window in facts.history]
    for axes in (above, below):
        _style(axes)
    _draw_score(above, facts, times)
    _draw_volume(below, facts, times)
    alerts = [*facts.earlier_alerts, *facts.alerts]
    for alert in alerts:
        at = alert.starts_at + _STEP[alert.size] / 2
        above.axvline(_days(at), color=SOFT, linewidth=0.6, linestyle=(0, (2, 2)), zorder=1)
        above.plot(
            [_days(at)],
            [-1.0],
            marker=MARKERS[alert.rule],
            markersize=6,
            color=ORANGE,
            markeredgecolor="white",
            clip_on=False,
            zorder=5,
        )
    _draw_axis(below, facts)
    _draw_legend(above, below, {alert.rule for alert in alerts})
    return figure


def _draw_score(axes: Axes, facts: ReportFacts, times: Sequence[float]) -> None:
    """Draw the windows as dots sized by their numbers of documents, and the running mean as a line."""
    axes.axhline(0, color=SOFT, linewidth=0.8, zorder=1)
    known = [
        (at, w, w.mean_score) for at, w in zip(times, facts.history, strict=True) if w.mean_score is not None
    ]
    axes.scatter(
        [at for at, _, _ in known],
        [value for _, _, value in known],
        s=[8 + 5 * math.sqrt(window.num_documents) for _, window, _ in known],
        color=BLUE,
        alpha=0.4,
        linewidths=0,
        zorder=2,
    )
    middle, half = _running(facts.history)
    drawn = [
        (at, m, h) for at, m, h in zip(times, middle, half, strict=True) if m is not None and h is not None
    ]
    xs = [at for at, _, _ in drawn]
    axes.fill_between(
        xs,
        [max(-1.0, m - h) for _, m, h in drawn],
        [min(1.0, m + h) for _, m, h in drawn],
        color=BLUE,
        alpha=0.15,
        linewidth=0,
        zorder=1,
    )
    axes.plot(xs, [m for _, m, _ in drawn], color=BLUE, linewidth=1.8, zorder=3)
    axes.set_ylim(-1.05, 1.05)
    axes.set_yticks([-1, -0.5, 0, 0.5, 1], ["−1", "−0.5", "0", "+0.5", "+1"])
    axes.set_ylabel("Mean score")


RUNNING_WINDOWS = 7
"""Number of windows that the line averages; seven days even out differences between weekdays."""


def _running(history: Sequence[EntityWindow]) -> tuple[list[float | None], list[float | None]]:
    """Return the mean score of the last RUNNING_WINDOWS at each window, and half of its 95% interval.

    The mean is weighted by numbers of documents, and None where there are no documents. For the interval, the
    class of each document counts as a draw of -1, 0 or 1. The variance of the mean is the variance of these
    draws divided by the number of documents (normal approximation).
    """
    means: list[float | None] = []
    halves: list[float | None] = []
    for index in range(len(history)):
        last = [
            w for w in history[max(0, index + 1 - RUNNING_WINDOWS) : index + 1] if w.mean_score is not None
        ]
        number = sum(window.num_documents for window in last)
        if not number:
            means.append(None)
            halves.append(None)
            continue
        mean = sum((window.mean_score or 0.0) * window.num_documents for window in last) / number
        sides = sum(window.num_positive + window.num_negative for window in last) / number
        lean = sum(window.num_positive - window.num_negative for window in last) / number
        variance = max(sides - lean * lean, 1 / (4 * number))
        means.append(mean)
        halves.append(1.96 * math.sqrt(variance / number))
    return means, halves


def _draw_volume(axes: Axes, facts: ReportFacts, times: Sequence[float]) -> None:
    width = 0.8 * _STEP[facts.window.size] / timedelta(days=1)
    volumes = [window.num_documents for window in facts.history]
    negatives = [window.num_negative for window in facts.history]
    axes.bar(times, volumes, width=width, color=GREY, linewidth=0, zorder=2)
    axes.bar(times, negatives, width=width, color=ORANGE, linewidth=0, zorder=3)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
    axes.set_ylim(0, max([*volumes, 1]) * 1.1)
    axes.set_ylabel("Documents")


def _draw_axis(axes: Axes, facts: ReportFacts) -> None:
    locator = AutoDateLocator(tz=facts.zone, minticks=4, maxticks=9)  # type: ignore[no-untyped-call]
    axes.xaxis_date(facts.time_zone)
    axes.xaxis.set_major_locator(locator)
    formatter = ConciseDateFormatter(locator, tz=facts.zone)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_formatter(formatter)
    first = facts.history[0].starts_at
    axes.set_xlim(_days(first), _days(facts.ends_at))
    axes.set_xlabel(f"Time zone {facts.time_zone}")


def _draw_legend(above: Axes, below: Axes, rules: set[AlertRule]) -> None:
    handles: list[Artist] = [
        Line2D([], [], color=BLUE, linewidth=1.8, label=f"mean of {RUNNING_WINDOWS} windows, 95% interval"),
        Line2D([], [], color=BLUE, alpha=0.4, marker="o", linewidth=0, label="one window"),
    ]
    handles += [
        Line2D([], [], color=ORANGE, marker=MARKERS[rule], linewidth=0, label=RULE_NAMES[rule].lower())
        for rule in AlertRule
        if rule in rules
    ]
    counted: list[Artist] = [
        Patch(color=GREY, label="all documents"),
        Patch(color=ORANGE, label="negative documents"),
    ]
    for axes, shown in ((above, handles), (below, counted)):
        axes.legend(
            handles=shown,
            bbox_to_anchor=(0, 1),
            ncols=len(shown),
            loc="lower left",
            frameon=False,
            fontsize=8,
            borderaxespad=0.2,
        )


def _style(axes: Axes) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(SOFT)
    axes.grid(axis="y", color=RULE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, labelsize=8)
    axes.yaxis.label.set_color(INK)


def _middle(window: EntityWindow) -> float:
    return _days(window.starts_at + _STEP[window.size] / 2)


def _days(at: datetime) -> float:
    """Return the number of days since 1970, which is matplotlib's unit of time."""
    return (at - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(days=1)

"""Expresses facts in plain words: numbers, alerts, and sentences that are written without a model."""

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from jobs.guards import INJECTION_SUSPECTED
from kinds.sentiment.report.facts import ReportFacts
from kinds.sentiment.series.policy import Alert, AlertRule
from kinds.sentiment.series.time_windows import EntityWindow, WindowSize

MOOD_BAND = 0.15
"""Distance from 0 below which a mean score is called neutral. If a third of the documents are on one side and
the others are neutral, the score exceeds it."""

STEADY = 0.05
"""Change below which a mean score is called unchanged, because charts do not show smaller changes."""

MAX_QUOTED_CHARACTERS = 240
"""Maximum characters of a quotation in the summary; longer sentences appear with the documents only."""

MINUS = "\N{MINUS SIGN}"

RULE_NAMES = {
    AlertRule.SURGE: "Surge of negatives",
    AlertRule.SLIDE: "Slow slide",
    AlertRule.SILENCE: "Silence",
    AlertRule.REVERSAL: "Reversal",
}

_FINDINGS = {
    AlertRule.SURGE: "{observed} recent negative {noun}, while the past of {name} explains {expected}",
    AlertRule.SLIDE: "the mood of {name} has declined slowly, from a score of {expected} to {observed}",
    AlertRule.SILENCE: "{observed} recent {noun} about {name}, while its past explains {expected}",
    AlertRule.REVERSAL: "the mood of {name} has turned, from a score of {expected} to {observed}",
}


def percent(share: float | None) -> str:
    """Return a share in per cent.

    >>> percent(0.4666), percent(None)
    ('47%', '–')
    """
    return "–" if share is None else f"{share * 100:.0f}%"


def score(value: float | None) -> str:
    """Return a score with its sign.

    >>> score(-0.349), score(0.2), score(-0.001), score(None)
    ('−0.35', '+0.20', '0.00', '–')
    """
    if value is None:
        return "–"
    text = f"{abs(value):.2f}"
    return text if text == "0.00" else f"{'+' if value > 0 else MINUS}{text}"


def amount(value: float | None) -> str:
    """Return a number of documents, or a mean of such numbers, as reports write it.

    >>> amount(12), amount(4.04), amount(4.26), amount(1234.4), amount(None)
    ('12', '4', '4.3', '1,234', '–')
    """
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 100 or f"{value:.1f}".endswith(".0") else f"{value:.1f}"


def count(number: int, noun: str) -> str:
    """Return a number with its noun in the singular or plural.

    >>> count(1, "document"), count(1200, "document")
    ('1 document', '1,200 documents')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def odds(probability: float) -> str:
    """Return a probability as "1 in N" or, above 0.15, as "N in 10".

    >>> odds(0.0312), odds(0.000012), odds(0.3), odds(0.0)
    ('1 in 32', '1 in 83,000', '3 in 10', 'less than 1 in 1,000,000,000')
    """
    if probability < 1e-9:
        return "less than 1 in 1,000,000,000"
    if probability > 0.15:
        return f"{probability * 10:.0f} in 10"
    return f"1 in {float(f'{1 / probability:.2g}'):,.0f}"


def day(at: datetime, zone: ZoneInfo) -> str:
    """Return the local date in words.

    >>> from datetime import UTC
    >>> day(datetime(2026, 3, 2, 23, tzinfo=UTC), ZoneInfo("Europe/Berlin"))
    '3 March 2026'
    """
    local = at.astimezone(zone)
    return f"{local.day} {local:%B %Y}"


def moment(at: datetime, zone: ZoneInfo) -> str:
    """Return the local date and time in words.

    >>> from datetime import UTC
    >>> moment(datetime(2026, 3, 2, 23, 5, tzinfo=UTC), ZoneInfo("Europe/Berlin"))
    '3 March 2026, 00:05'
    """
    return f"{day(at, zone)}, {at.astimezone(zone):%H:%M}"


def span(window: EntityWindow, ends_at: datetime, zone: ZoneInfo) -> str:
    """Return the window's time in words, such as "2 March 2026" or "the week of 2 to 8 March 2026"."""
    return span_of(window.size, window.starts_at, ends_at, zone)


def span_of(size: WindowSize, starts_at: datetime, ends_at: datetime, zone: ZoneInfo) -> str:
    """Return the time of the window with this size, start and end in words, as `span` does."""
    if size is WindowSize.HOUR:
        return f"{moment(starts_at, zone)} to {ends_at.astimezone(zone):%H:%M}"
    if size is WindowSize.DAY:
        return day(starts_at, zone)
    first = starts_at.astimezone(zone)
    last = (ends_at - timedelta(seconds=1)).astimezone(zone)
    begin = f"{first.day}" if first.month == last.month else f"{first.day} {first:%B}"
    return f"the week of {begin} to {last.day} {last:%B %Y}"


def preposition(size: WindowSize) -> str:
    """Return the preposition that precedes the words of `span` for a window of this size."""
    return {WindowSize.HOUR: "from", WindowSize.DAY: "on", WindowSize.WEEK: "in"}[size]


def mood(value: float | None) -> str | None:
    """Return the word for a mean score; None without a score.

    >>> mood(-0.4), mood(0.1), mood(None)
    ('negative', 'neutral', None)
    """
    if value is None:
        return None
    return "neutral" if abs(value) < MOOD_BAND else "positive" if value > 0 else "negative"


def alert_words(alert: Alert, name: str) -> str:
    """Return the finding of the alert and the significance of its test in words."""
    write = score if alert.rule in (AlertRule.SLIDE, AlertRule.REVERSAL) else amount
    finding = _FINDINGS[alert.rule].format(
        name=name,
        noun="document" if alert.observed == 1 else "documents",
        observed=write(alert.observed),
        expected=write(alert.expected),
    )
    return (
        f"{finding}. By chance alone this happens {odds(alert.p_value)} times; "
        f"the budget of false alarms allows {odds(alert.threshold)}."
    )


def volume_sentence(facts: ReportFacts) -> str:
    """Return a sentence with the number of documents and the usual number."""
    window, name = facts.window, facts.entity.name
    when = f"{preposition(window.size).capitalize()} {span(window, facts.ends_at, facts.zone)}"
    usual = ""
    if facts.expected_documents is not None:
        usual = f", against {amount(facts.expected_documents)} a {window.size.value} in its past"
    number = count(window.num_documents, "document") if window.num_documents else "no documents"
    verb = "was" if window.num_documents == 1 else "were"
    so_far = "" if facts.open_until is None else f" {so_far_words(facts)}"
    return f"{when} there {verb} {number} about {name}{usual}{so_far}."


def so_far_words(facts: ReportFacts) -> str:
    """Return how far an unfinished window is known, as in "so far, up to 04:51"; empty for a finished one."""
    at = facts.open_until
    if at is None:
        return ""
    is_long = facts.window.size is WindowSize.WEEK
    return f"so far, up to {moment(at, facts.zone) if is_long else f'{at.astimezone(facts.zone):%H:%M}'}"


def counted_words(facts: ReportFacts) -> str:
    """Return the number of counted documents, as in "12 documents were counted, 3 as follow-ups"."""
    number = len(facts.counted)
    if not number:
        return "No document was counted"
    followups = sum(document.novelty > 1 for document in facts.counted)
    verb = "was" if number == 1 else "were"
    return f"{count(number, 'document')} {verb} counted" + (
        f", {followups:,} as follow-ups" if followups else ""
    )


def mood_sentence(facts: ReportFacts) -> str | None:
    """Return a sentence on the mean score against the past; None for a window without documents."""
    window = facts.window
    if window.mean_score is None:
        return None
    text = f"The mood was {mood(window.mean_score)}, with a mean score of {score(window.mean_score)}"
    if window.baseline_score is not None:
        change = window.mean_score - window.baseline_score
        side = "close to" if abs(change) < STEADY else "above" if change > 0 else "below"
        text += f", {side} its past of {score(window.baseline_score)}"
    return text + "."


def negatives_sentence(facts: ReportFacts) -> str | None:
    """Return a sentence on the share of negative documents with its interval; None without documents."""
    window, past = facts.window, facts.past_negative_share
    if window.negative_share is None:
        return None
    text = f"{percent(window.negative_share)} of the documents were negative"
    if window.negative_low is not None and window.negative_high is not None:
        text += f" (95% interval {percent(window.negative_low)} to {percent(window.negative_high)})"
    return text + ("." if past is None else f", against {percent(past)} in its past.")


def quotation(facts: ReportFacts) -> str | None:
    """Quote the strongest document; None if no document can be quoted.

    Long sentences and documents with suspected prompt injection are skipped.
    """
    for driver in facts.drivers:
        sentence = " ".join(driver.sentence.split())
        if sentence and len(sentence) <= MAX_QUOTED_CHARACTERS and INJECTION_SUSPECTED not in driver.flags:
            speaker = f"{driver.source} wrote" if driver.source else "The strongest document said"
            return f"{speaker}: “{sentence}”"
    return None

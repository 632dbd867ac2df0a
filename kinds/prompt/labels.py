"""Compares the answers of a batch with the right answers in a column of its table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from jobs.rejection import quoted
from kinds.prompt.columns import new_columns
from kinds.prompt.payload import PromptSettings
from kinds.prompt.template import printed

MAX_LISTED = 5
"""Maximum number of labels and of confusions that are listed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelFigures:
    """How often the answers are the labels. Rows without a label or without an answer are not compared."""

    column: str
    num_compared: int
    num_unanswered: int
    """Number of rows with a label whose job has failed."""
    accuracy: float | None
    """Share of the compared rows whose answer is the label; None if there are none."""
    macro_f1: float | None
    """Mean of F1 over the classes that occur among the labels; None if there are none."""
    confusions: tuple[tuple[str, str, int], ...]
    """The most frequent wrong answers: label, answer and number of rows."""
    strange_labels: tuple[str, ...]
    """Some labels that no answer can be, because they are not among the choices."""

    def as_json(self) -> dict[str, object]:
        """Return the figures as JSON with stable names; see docs/prompts.md."""
        return {
            "column": self.column,
            "num_compared": self.num_compared,
            "num_unanswered": self.num_unanswered,
            "accuracy": None if self.accuracy is None else round(self.accuracy, 4),
            "macro_f1": None if self.macro_f1 is None else round(self.macro_f1, 4),
            "confusions": [
                {"label": label, "answer": answer, "num_rows": number}
                for label, answer, number in self.confusions
            ],
            "strange_labels": list(self.strange_labels),
        }

    def lines(self) -> Iterator[str]:
        """Yield the figures as sentences for people."""
        if self.accuracy is None or self.macro_f1 is None:
            yield f"no row has both an answer and a label in {quoted(self.column)}"
            return
        figures = f"accuracy {self.accuracy:.3f}, macro-F1 {self.macro_f1:.3f}"
        yield f"{figures} over {self.num_compared:,} rows with labels in {quoted(self.column)}"
        if self.strange_labels:
            yield f"labels that are not among the choices: {', '.join(map(quoted, self.strange_labels))}"


class LabelTally:
    """Counts pairs of label and answer, so that memory grows with the different pairs alone."""

    def __init__(self, settings: PromptSettings) -> None:
        """Compare the only new column with the column `settings.labels`, which must not be None."""
        if settings.labels is None:
            raise ValueError("the batch has no labels")
        self._column = settings.labels
        (self._new,) = new_columns(settings)
        self._choices = settings.choice
        self._pairs: Counter[tuple[str, str]] = Counter()
        self._num_unanswered = 0

    def add(self, row: Mapping[str, object], outputs: Mapping[str, object] | None) -> None:
        """Count a row, whose new columns are `outputs`; None if its job failed."""
        label = _text(row.get(self._column))
        if not label:
            return
        if outputs is None:
            self._num_unanswered += 1
        else:
            self._pairs[label, _text(outputs.get(self._new))] += 1

    def figures(self) -> LabelFigures:
        """Return the figures of the rows so far."""
        num_compared = self._pairs.total()
        num_right = sum(number for (label, answer), number in self._pairs.items() if label == answer)
        wrong = Counter({pair: number for pair, number in self._pairs.items() if pair[0] != pair[1]})
        labels = sorted({label for label, _ in self._pairs})
        return LabelFigures(
            column=self._column,
            num_compared=num_compared,
            num_unanswered=self._num_unanswered,
            accuracy=num_right / num_compared if num_compared else None,
            macro_f1=_macro_f1(self._pairs, labels) if num_compared else None,
            confusions=tuple((*pair, number) for pair, number in wrong.most_common(MAX_LISTED)),
            strange_labels=tuple(label for label in labels if self._choices and label not in self._choices)[
                :MAX_LISTED
            ],
        )


def _text(value: object) -> str:
    return str(printed(value)).strip()


def _macro_f1(pairs: Mapping[tuple[str, str], int], labels: list[str]) -> float:
    # This is imported here because it takes a second, and few batches have labels.
    from sklearn.metrics import f1_score

    true, predicted = zip(*pairs, strict=True)
    weights = list(pairs.values())
    return float(
        f1_score(true, predicted, labels=labels, average="macro", sample_weight=weights, zero_division=0)
    )

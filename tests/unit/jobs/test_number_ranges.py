"""Every number has a range where it enters: options, settings, files, rows. Nothing ends in a traceback."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, get_args

import pytest
from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from typer.testing import CliRunner

import jobs
import kinds
import pressroom
import workers
from jobs.errors import ConfigurationError, InputError, PressroomError
from jobs.ranges import MAX_SEED
from jobs.schedule import Cron
from kinds.classifier.train import read_plan
from kinds.recommendation.ranking.evaluation import parse_split
from kinds.recommendation.recommender_file import read_recommender_file
from kinds.sentiment.monitor_file import read_monitor_file
from pressroom.cli import app
from pressroom.console import EXIT_USAGE
from tests.unit.jobs.intake.lines import csv_text, jsonl, read, write
from workers.intake import BatchRequest
from workers.producer import new_batch
from workers.settings import Settings, read_settings

WRITTEN_HERE = frozenset(
    {"ArticleMetrics", "HeldOutFigures", "LabelPrediction", "ModelCalibration", "CalibrationFile"}
    | {"Inputs", "DroppedRows", "ReleaseManifest", "ReleaseCounts", "ReleasedBlock", "Text"}
    | {"ModelFile", "InstalledModel", "Ending", "Evidence", "WindowsPayload"}
    | {"CollectOutput", "DocumentsOutput", "WindowsOutput", "ReportPlan"}
    | {"ExampleMetrics", "LineOutcome", "PartPlace", "TokenProbability"}
)
"""What the program counted itself, and reads only from its own database, store or digested files. Outputs of
stages are such, too."""

EXAMPLES = Path(__file__).parents[3] / "examples"
BRIEFS = str(EXAMPLES / "articles" / "briefs.csv")
HUGE = "1" + "0" * 5000


def models_that_read() -> Iterator[type[BaseModel]]:
    for package in (jobs, workers, pressroom, kinds):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if ".engines." not in module.name and not module.name.endswith("__main__"):
                import_module(module.name)
    pending = [BaseModel]
    while pending:
        model = pending.pop()
        pending += model.__subclasses__()
        is_ours = model.__module__.partition(".")[0] in ("jobs", "workers", "pressroom", "kinds")
        is_output = model.__module__.endswith(".outputs")
        if is_ours and not is_output and model.__name__ not in WRITTEN_HERE:
            yield model


def unbounded_numbers(annotation: Any, metadata: tuple[Any, ...] = ()) -> bool:
    """Whether an annotation holds a number without both bounds, in a union, a mapping or a sequence too."""
    if annotation in (int, float):
        kinds = {type(part) for part in metadata}
        return not (kinds & {Ge, Gt} and kinds & {Le, Lt})
    first, *rest = get_args(annotation) or (None,)
    if hasattr(annotation, "__metadata__"):
        fields = [part for part in rest if isinstance(part, FieldInfo)]
        return unbounded_numbers(
            first, (*metadata, *rest, *(each for part in fields for each in part.metadata))
        )
    return any(unbounded_numbers(part, metadata) for part in get_args(annotation))


@pytest.mark.attack("number out of range")
def test_every_number_that_is_read_has_both_bounds() -> None:
    faults = {
        f"{model.__name__}.{name}"
        for model in models_that_read()
        for name, field in model.model_fields.items()
        if unbounded_numbers(field.annotation, tuple(field.metadata))
    }
    # Attributes of a catalogue are shown and compared, and take part in no arithmetic.
    assert faults == {"Item.attributes"}


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "1e400", "-1", HUGE])
def test_setting_outside_of_its_range_is_refused_by_name(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, field in Settings.model_fields.items():
        if field.metadata:
            monkeypatch.setenv(f"PRESSROOM_{name.upper()}", text)
            with pytest.raises(ConfigurationError, match=f"PRESSROOM_{name.upper()}"):
                read_settings()
            monkeypatch.delenv(f"PRESSROOM_{name.upper()}")


@pytest.mark.attack("number out of range")
@pytest.mark.parametrize(
    "options",
    [
        ("--seed", "-1"),
        ("--seed", str(2**64)),
        ("--deadline", "inf"),
        ("--deadline", "nan"),
        ("--deadline", "1e300"),
        ("--priority", "32768"),
        ("--tenant", "a\udcffb"),
        ("--tenant", "a\nb"),
        ("--tenant", "a" * 201),
        ("--tenant", " "),
        ("--idempotency-key", "\x1b[31m"),
        ("--set", f"top_k={2**60}"),
        ("--set", "temperature=nan"),
        ("--set", "top_p=1e400"),
        ("--set", f"top_k={HUGE}"),
        ("--max-dropped", "nan"),
    ],
)
def test_option_outside_of_its_range_is_wrong_usage(options: tuple[str, str]) -> None:
    ended = CliRunner().invoke(app, ["submit", "articles", BRIEFS, *options])
    assert (ended.exit_code, type(ended.exception)) == (EXIT_USAGE, SystemExit)
    assert "Traceback" not in ended.output


@pytest.mark.parametrize(
    "command",
    [
        ("alerts", "mute", "news", "--hours", "1e300"),
        ("alerts", "mute", "news", "--hours", "nan"),
        ("alerts", "list", "--limit", HUGE),
        ("refresh", "diff", "shop", "1", str(2**63)),
        ("refresh", "serve", "shop", "--staging", "-1"),
        ("refresh", "serve", "shop", "--expire-seconds", str(2**63)),
        ("run", "sentiment", BRIEFS, "--false-alarms", "inf"),
        ("run", "sentiment", BRIEFS, "--max-reports", HUGE),
        ("batches", "--limit", str(2**64)),
    ],
)
def test_number_of_any_command_has_a_range(command: tuple[str, ...]) -> None:
    ended = CliRunner().invoke(app, list(command))
    assert (ended.exit_code, type(ended.exception)) == (EXIT_USAGE, SystemExit)


@pytest.mark.parametrize(
    "order",
    [
        {"seed": -1},
        {"seed": MAX_SEED + 1},
        {"priority": 101},
        {"deadline_seconds": float("inf")},
        {"deadline_seconds": float("nan")},
        {"deadline_seconds": 1e300},
        {"deadline_seconds": 0},
        {"tenant": "a\x00b"},
        {"tenant": "\ud800"},
        {"name": "n" * 201},
        {"idempotency_key": ""},
    ],
)
def test_order_of_a_program_is_checked_as_a_command_is(order: dict[str, Any]) -> None:
    with pytest.raises(InputError) as raised:
        new_batch(
            BatchRequest(kind="article", model="m", settings={}, **order), Settings(), name="briefs.csv"
        )
    assert raised.value.code in ("number_out_of_range", "label_invalid")


def test_file_of_an_odd_name_gives_a_batch_a_name_that_can_be_stored() -> None:
    model = Settings().profiles["default"].models[0]
    batch = new_batch(
        BatchRequest(kind="article", model=model, settings={}), Settings(), name="br\udcffiefs\n.csv"
    )
    assert batch.name == "br\\udcffiefs\\u000a.csv"


@pytest.mark.attack("number out of range")
@pytest.mark.parametrize(
    "value", ["nan", "inf", "-1", str(2**63), "1" + "0" * 400, HUGE, "1e400", "[" * 1500]
)
@pytest.mark.parametrize("reader", [read_monitor_file, read_recommender_file, read_plan])
def test_number_of_a_toml_file_is_refused_with_the_file(tmp_path: Path, value: str, reader: Any) -> None:
    path = tmp_path / "settings.toml"
    for name in ("name", "seed", "refit_share", "max_reports"):
        path.write_text(f"{name} = {value}\n")
        with pytest.raises(PressroomError, match=r"settings\.toml"):
            reader(path)


@pytest.mark.attack("number out of range")
@pytest.mark.parametrize("value", ["NaN", "Infinity", "1e400", "-1", "1" + "0" * 30, HUGE, "true", "[]"])
def test_number_of_a_row_is_refused_with_its_line(tmp_path: Path, value: str) -> None:
    lines = f'{{"title": "Bread", "length": {value}}}\n' + jsonl({"title": "Rye"})
    outcome = read(write(tmp_path, "briefs.jsonl", lines))
    assert [line for line, _ in outcome.codes] == [1]
    assert len(outcome.accepted) == 1


@pytest.mark.parametrize("value", ["nan", "inf", "-1", "9" * 5000, "0x10"])
def test_number_of_a_cell_is_refused_with_its_line(tmp_path: Path, value: str) -> None:
    outcome = read(write(tmp_path, "briefs.csv", csv_text("title,length", f"Bread,{value}", "Rye,100")))
    assert [line for line, _ in outcome.codes] == [2]


@pytest.mark.parametrize(
    "expression", ["9" * 5000 + " * * * *", "*/0 * * * *", "\ud800 * * * *", "0 0 31 2 8"]
)
def test_cron_outside_of_its_ranges_is_refused(expression: str) -> None:
    with pytest.raises(InputError):
        Cron(expression, "UTC")


@pytest.mark.parametrize("split", ["random:nan", "random:inf", "temporal:-1", "random:" + "9" * 6000])
def test_share_of_a_split_is_refused_outside_of_its_range(split: str) -> None:
    with pytest.raises(InputError):
        parse_split(split)

"""The page of a batch shows each row beside what it was made from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

import pytest

from db.reports import JobResult
from kinds.prompt.page import PageRow
from kinds.prompt.payload import PromptSettings


@dataclass(frozen=True)
class Job:
    """The fields of a JobResult that the page reads."""

    custom_id: str
    artifact_name: str | None = "texts.json"
    metrics: dict[str, object] = field(default_factory=dict)


@pytest.mark.parametrize(("ids", "value"), [("id", "lamp"), ("ID", 7)])
def test_column_with_the_ids_is_left_out_and_no_other_that_has_the_same_value(
    ids: str, value: object
) -> None:
    settings = PromptSettings(template="About {{ name }}.", columns=("sku", ids, "name"))
    job = cast("JobResult", Job(str(value)))
    inputs = {"sku": str(value), ids: value, "name": str(value)}
    row = PageRow.of(job, inputs, {"text": "new"}, settings)
    assert [cell.name for cell in row.inputs] == ["name", "sku"]

"""A mapping of columns that is given as text."""

from __future__ import annotations

import pytest
from pydantic import BaseModel, ValidationError

from jobs.intake.columns import FieldColumns


class Options(BaseModel):
    """Options with a mapping."""

    columns: FieldColumns = {}


def test_text_is_parsed_and_a_mapping_is_kept() -> None:
    assert Options.model_validate({"columns": "text=body, title=head"}).columns == {
        "text": "body",
        "title": "head",
    }
    assert Options(columns={"text": "body"}).columns == {"text": "body"}


@pytest.mark.parametrize("text", ["text", "text=", "=body", "text=body,title", ""])
def test_text_that_is_no_mapping_is_refused_and_nothing_of_it_is_dropped(text: str) -> None:
    with pytest.raises(ValidationError, match="FIELD=COLUMN"):
        Options.model_validate({"columns": text})

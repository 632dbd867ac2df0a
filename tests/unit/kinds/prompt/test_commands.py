"""The options of commands become settings of the batch."""

from __future__ import annotations

import pytest
import typer

from kinds.prompt.commands import PromptOptions
from kinds.prompt.payload import PromptSettings


def arguments(*pairs: str) -> dict[str, object]:
    settings = PromptOptions(template_argument=list(pairs)).kind_settings("prompt")
    return dict(PromptSettings.model_validate(settings).template_arguments)


def test_value_of_a_template_argument_may_have_commas_and_equal_signs() -> None:
    assert arguments("style=short, dry", "rule=a=b") == {"style": "short, dry", "rule": "a=b"}


def test_template_arguments_are_numbers_and_booleans_where_they_look_like_them() -> None:
    assert arguments("enable_thinking=true", "budget=1024") == {"enable_thinking": True, "budget": 1024}
    assert arguments() == {}


@pytest.mark.parametrize("pair", ["style", "=short", " =short"])
def test_template_argument_without_a_name_is_refused(pair: str) -> None:
    with pytest.raises(typer.BadParameter, match="is not of the form NAME=VALUE"):
        arguments(pair)

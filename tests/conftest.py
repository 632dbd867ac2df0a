"""Fixtures that several kinds of tests share."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes import load_nothing
from workers.models.install import Installation, add_model
from workers.settings import DEFAULT_MODEL, Settings

pytest_plugins = ("tests.services", "tests.commands")

PLUGINS = Path(__file__).parent / "plugins"
"""Looks like an installed package to importlib.metadata: its kinds are found by entry point."""

sys.path.append(str(PLUGINS))

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell script that starts the tests in the background ignores SIGINT for them, and for each command
    # that they start and interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="module")
def untried() -> Iterator[None]:
    """Models are installed without being loaded: for tests of everything else about an installation."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("workers.models.install.try_model", load_nothing)
        yield


@pytest.fixture(scope="session")
def installed_model() -> Installation:
    """The default model in the user's own models folder, downloaded and converted if it is not there yet."""
    return add_model(DEFAULT_MODEL, Settings().models_folder)


@pytest.fixture(scope="session")
def model_folder(installed_model: Installation) -> Path:
    """The folder of the default model."""
    return installed_model.folder

"""The version of this code, for provenance."""

from __future__ import annotations

import subprocess
from importlib.metadata import version
from pathlib import Path

from jobs.provenance import CodeFacts
from workers.settings import Settings

GIT_TIMEOUT_SECONDS = 5


def code_facts(settings: Settings) -> CodeFacts:
    """Return the package's version and commit.

    The commit comes from the settings, or else from git if the code is a checkout.
    """
    return CodeFacts(version=version("pressroom"), commit=settings.commit or _git_commit() or "unknown")


def _git_commit() -> str | None:
    checkout = Path(__file__).resolve().parent.parent
    if not (checkout / ".git").exists():
        return None
    try:
        described = subprocess.run(
            ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],  # noqa: S607
            capture_output=True,
            text=True,
            timeout=GIT_TIMEOUT_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return described.stdout.strip()

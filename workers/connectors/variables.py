"""URLs from environment variables of this process; their keys are stored nowhere else."""

from __future__ import annotations

import os

from jobs.sources import SourceRefusedError


def required_variable(name: str) -> str:
    """Return an environment variable of this worker.

    Raises SourceRefusedError that names the variable, never its value.
    """
    value = os.environ.get(name)
    if not value:
        raise SourceRefusedError(
            f"the environment variable {name} of the worker is not set: set it to the source's URL and start "
            "the workers again",
            code="source_variable_missing",
        )
    return value

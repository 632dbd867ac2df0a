"""Pressroom: batch content production on your own machines.

Applications use a `Client`. It submits batches, follows them, and streams their results.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from db.batches import BatchNotFoundError, RunUnderWayError
    from db.faults import DatabaseAwayError, DatabaseRefusedError
    from db.reports import JobNotFoundError
    from db.stages import JobsRefusedError
    from jobs.batch import BatchStatus, BatchStatusReport, JobCounts, ParkedJob
    from jobs.errors import ConfigurationError, InputError, PermanentError, PressroomError, TransientError
    from jobs.inference import Usage
    from jobs.rejection import Dropped, FileRejectedError, Rejected
    from pressroom.client import BatchOptions, Client, Output, WaitTimeoutError
    from pressroom.embedded.services import ServiceUrls
    from pressroom.results import ArtifactAlteredError
    from pressroom.schemas import FieldSchema, KindInfo
    from storage.store import StoreError
    from workers.producer import StrictIntakeError, Submission

_NAMES = {
    "db.batches": ("BatchNotFoundError", "RunUnderWayError"),
    "db.faults": ("DatabaseAwayError", "DatabaseRefusedError"),
    "db.reports": ("JobNotFoundError",),
    "db.stages": ("JobsRefusedError",),
    "jobs.batch": ("BatchStatus", "BatchStatusReport", "JobCounts", "ParkedJob"),
    "jobs.errors": ("ConfigurationError", "InputError", "PermanentError", "PressroomError", "TransientError"),
    "jobs.inference": ("Usage",),
    "jobs.rejection": ("Dropped", "FileRejectedError", "Rejected"),
    "pressroom.client": ("BatchOptions", "Client", "Output", "WaitTimeoutError"),
    "pressroom.embedded.services": ("ServiceUrls",),
    "pressroom.results": ("ArtifactAlteredError",),
    "pressroom.schemas": ("FieldSchema", "KindInfo"),
    "storage.store": ("StoreError",),
    "workers.producer": ("StrictIntakeError", "Submission"),
}
_MODULES = {name: module for module, names in _NAMES.items() for name in names}

__all__ = [
    "ArtifactAlteredError",
    "BatchNotFoundError",
    "BatchOptions",
    "BatchStatus",
    "BatchStatusReport",
    "Client",
    "ConfigurationError",
    "DatabaseAwayError",
    "DatabaseRefusedError",
    "Dropped",
    "FieldSchema",
    "FileRejectedError",
    "InputError",
    "JobCounts",
    "JobNotFoundError",
    "JobsRefusedError",
    "KindInfo",
    "Output",
    "ParkedJob",
    "PermanentError",
    "PressroomError",
    "Rejected",
    "RunUnderWayError",
    "ServiceUrls",
    "StoreError",
    "StrictIntakeError",
    "Submission",
    "TransientError",
    "Usage",
    "WaitTimeoutError",
]


def __getattr__(name: str) -> object:
    """Import a public name on its first use, so that the command line starts without loading the client."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)

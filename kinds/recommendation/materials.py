"""Inputs that several stages share: resources, which a worker parses only once, and the clock."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from jobs.kind import Parent, Resources
from kinds.recommendation.catalogue.inputs import Inputs
from kinds.recommendation.catalogue.item import Item, read_catalogue_bytes
from kinds.recommendation.payload import Materials, RecommendationSettings
from kinds.recommendation.release import ReleaseManifest, read_manifest

JSON = "application/json"
JSONL = "application/jsonl"
BINARY = "application/octet-stream"
PARQUET = "application/vnd.apache.parquet"


class Clock(Protocol):
    """The database's clock, by which releases are ordered. Any thread may call it."""

    def now(self) -> datetime:
        """Return the current time in UTC."""
        ...


@dataclass(frozen=True, slots=True)
class Catalogue:
    """A parsed catalogue, whose items can be found by position and by id."""

    items: tuple[Item, ...]
    by_id: dict[str, Item]


def read_inputs(body: bytes) -> Inputs:
    """Return the inputs from the bytes of their resource."""
    return Inputs.model_validate_json(body)


def read_catalogue(body: bytes) -> Catalogue:
    """Return the catalogue from the bytes of its resource. Raises the errors of read_catalogue_bytes."""
    items = tuple(read_catalogue_bytes(body))
    return Catalogue(items, {item.id: item for item in items})


def load_inputs(resources: Resources, sha256: str) -> Inputs:
    """Return the inputs of a run. Raises ResourceMissingError."""
    return resources.load(sha256, read_inputs)


def load_catalogue(resources: Resources, inputs_sha256: str) -> Catalogue:
    """Return the catalogue of these inputs. Raises ResourceMissingError."""
    return resources.load(load_inputs(resources, inputs_sha256).catalogue_sha256, read_catalogue)


def load_previous(resources: Resources, settings: RecommendationSettings) -> ReleaseManifest | None:
    """Return the manifest of the release whose results are reused, or None if there is no such release.

    Raises ResourceMissingError or ReleaseMalformedError.
    """
    if settings.previous_sha256 is None:
        return None
    return resources.load(settings.previous_sha256, read_manifest)


def parents_of(materials: Materials, inputs: Inputs) -> tuple[Parent, ...]:
    """Return the parents of results that are made from these materials, for their provenance."""
    parents = [
        Parent("catalogue", "catalogue", inputs.catalogue_sha256),
        Parent("model", "ranking model", materials.model_sha256),
    ]
    if materials.vectors_sha256:
        parents.append(Parent("vectors", "item vectors", materials.vectors_sha256))
    return tuple(parents)

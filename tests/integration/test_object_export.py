"""Results as single objects: readable keys in the same bucket, none of which hides another."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

import pytest
from sqlalchemy import Engine

from db.outcomes import commit
from db.stages import NewJob
from jobs.errors import ConfigurationError
from jobs.kind import Artifact
from pressroom.object_export import check_result_prefix
from storage import open_store
from storage.store import Store
from tests.commands import Run
from tests.factories import (
    accept,
    alter_place,
    artifact_place,
    claim_batch,
    job_ids,
    new_batch,
    published,
)

IDS = ("spring-sale", "Spring-Sale", "../../etc/passwd", "日本", "a b", "a-b", "con", "x" * 500)


def text(name: str, body: str) -> Artifact:
    return Artifact(name=name, media_type="text/markdown", body=body.encode())


def finished_batch(
    database: Engine, store: Store, artifacts: Mapping[str, list[Artifact]], name: str = "Spring sale.csv"
) -> UUID:
    jobs = [NewJob(custom_id, {"text": custom_id, "act": "write"}) for custom_id in artifacts]
    batch_id = accept(database, jobs, new_batch(kind="trial", name=name))
    commit(
        database, [published(store, job, artifacts[job.custom_id]) for job in claim_batch(database, batch_id)]
    )
    return batch_id


def objects_below(store: Store, prefix: str) -> dict[str, str]:
    return {key: store.get(key).decode() for key in store.keys(f"{prefix}/")}


def test_each_artifact_has_a_key_of_its_own_whatever_the_ids_are(
    run: Run, database: Engine, s3_url: str
) -> None:
    store = open_store(s3_url)
    artifacts = {
        custom_id: [text("text.md", f"{custom_id} small"), text("Text.md", f"{custom_id} large")]
        for custom_id in IDS
    }
    batch_id = finished_batch(database, store, artifacts)

    printed = run("results", str(batch_id), "--layout", "objects", "--json")

    assert printed["folder"] == f"results/spring-sale-csv-{batch_id}/"
    assert (printed["num_results"], printed["num_objects"]) == (len(IDS), 2 * len(IDS))
    written = objects_below(store, "results")
    assert written[f"{printed['folder']}spring-sale/text.md"] == "spring-sale small"
    assert sorted(written.values()) == sorted(
        f"{custom_id} {size}" for custom_id in IDS for size in ("small", "large")
    )


def test_second_export_changes_nothing(run: Run, database: Engine, s3_url: str) -> None:
    store = open_store(s3_url)
    batch_id = finished_batch(database, store, {"a": [text("text.md", "a")]})
    command = ("results", str(batch_id), "--layout", "objects", "--prefix", "for/people/")

    first = run(*command)
    written = objects_below(store, "for/people")

    assert f"for/people/spring-sale-csv-{batch_id}/" in first
    assert run(*command) == first
    assert objects_below(store, "for/people") == written
    assert list(written.values()) == ["a"]


def test_batches_of_one_name_do_not_share_a_folder(run: Run, database: Engine, s3_url: str) -> None:
    store = open_store(s3_url)
    for body in ("first", "second"):
        batch_id = finished_batch(database, store, {"a": [text("text.md", body)]})
        run("results", str(batch_id), "--layout", "objects")

    assert sorted(objects_below(store, "results").values()) == ["first", "second"]


def test_altered_result_is_named_and_not_written(run: Run, database: Engine, s3_url: str) -> None:
    store = open_store(s3_url)
    artifacts = {custom_id: [text("text.md", custom_id * 9)] for custom_id in ("a", "b")}
    batch_id = finished_batch(database, store, artifacts)
    altered = job_ids(database, batch_id)[0]
    alter_place(store, artifact_place(database, altered), b"forged")

    printed = run("results", str(batch_id), "--layout", "objects", code=1)

    assert str(altered) in printed
    assert list(objects_below(store, "results").values()) == ["b" * 9]


@pytest.mark.parametrize("prefix", ["", "/", "../x", "Large", "a//b", "packs", "artifacts/x", "x" * 201])
def test_prefix_that_is_not_valid_or_not_free_is_refused(prefix: str) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        check_result_prefix(prefix)
    assert refusal.value.code == "prefix_invalid"


def test_options_of_the_other_layout_are_refused(run: Run, database: Engine, s3_url: str) -> None:
    batch_id = str(finished_batch(database, open_store(s3_url), {"a": [text("text.md", "a")]}))

    assert "--prefix" in run("results", batch_id, "--prefix", "mine", code=2)
    assert "--out" in run("results", batch_id, "--layout", "objects", "--out", "folder", code=2)

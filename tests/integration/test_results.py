"""What leaves is checked: whatever one side alters, or swaps, is named and left out; nothing else is."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import Engine, delete, select, update

from db.evidence import JobEvidence, job_evidence
from db.outcomes import commit
from db.reports import batch_status
from db.stages import NewJob
from db.tables import ArtifactRow, JobRow, StatementRow
from jobs.kind import Artifact
from jobs.provenance import CodeFacts, StatementAlteredError, sha256_hex
from kinds.article.export import export_articles
from pressroom.results import ArtifactAlteredError, ResultReader, check_job
from pressroom.summary import Altered, Summary
from storage import open_store
from storage.memory import MemoryStore
from storage.packs import Place
from tests.factories import (
    accept,
    alter_place,
    artifact_place,
    claim_batch,
    job_ids,
    new_batch,
    prepared,
    published,
)
from workers.publisher import Publisher, statement_key

pytestmark = pytest.mark.attack("altered artifact or statement")

METRICS: dict[str, object] = {
    "title": "Title",
    "requested_words": 100,
    "num_words": 90,
    "is_within_length": True,
    "repetition": 0.01,
    "is_within_repetition": True,
    "requested_language": "en",
    "detected_language": "en",
    "flags": [],
}


@dataclass(frozen=True)
class Scene:
    """Three finished articles, the second of which somebody tampers with."""

    database: Engine
    store: MemoryStore
    batch_id: UUID
    ids: list[UUID]

    def update(self, table: type[ArtifactRow | StatementRow | JobRow], which: int, **values: object) -> None:
        key = table.id if table is JobRow else table.job_id  # type: ignore[union-attr]
        with self.database.begin() as connection:
            connection.execute(update(table).where(key == self.ids[which]).values(**values))

    def statement(self, which: int) -> bytes:
        with self.database.connect() as connection:
            body = connection.scalar(select(StatementRow.body).where(StatementRow.job_id == self.ids[which]))
        assert body is not None
        return body

    def evidence(self, which: int) -> JobEvidence:
        return job_evidence(self.database, [self.ids[which]])[self.ids[which]]

    def artifact(self, which: int, number: int = 0) -> Place:
        return artifact_place(self.database, self.ids[which], number)

    def copy(self, which: int) -> Place:
        """Where the copy of the statement is."""
        statement = self.evidence(which).statement
        assert statement is not None
        return Place(statement.object_key, len(statement.body), statement.byte_offset)


@pytest.fixture
def scene(database: Engine) -> Scene:
    store = MemoryStore()
    jobs = [NewJob(name, {"text": name, "act": "write"}) for name in ("first", "second", "third")]
    batch_id = accept(database, jobs, new_batch(kind="trial"))
    commit(
        database,
        [
            published(
                store,
                job,
                [
                    Artifact(
                        name="article.md", media_type="text/markdown", body=f"# {job.custom_id}\n".encode()
                    ),
                    Artifact(
                        name="notes.txt", media_type="text/plain", body=f"notes of {job.custom_id}".encode()
                    ),
                ],
                metrics=METRICS,
            )
            for job in claim_batch(database, batch_id)
        ],
    )
    return Scene(database, store, batch_id, job_ids(database, batch_id))


def forge_statement(scene: Scene, *, with_digest: bool = False) -> None:
    """Another model is said to have made it."""
    body = scene.statement(1).replace(b'"customId":"second"', b'"customId":"second" ').replace(b"1.0", b"6.6")
    digest = {"sha256": sha256_hex(body)} if with_digest else {}
    scene.update(StatementRow, 1, body=body, **digest)


def forge_statement_with_its_digest(scene: Scene) -> None:
    forge_statement(scene, with_digest=True)


def forge_statement_and_its_key(scene: Scene) -> None:
    forge_statement(scene, with_digest=True)
    key = statement_key(scene.evidence(1).artifacts[0].sha256, sha256_hex(scene.statement(1)))
    scene.update(StatementRow, 1, object_key=key, byte_offset=None)


def change_whitespace(scene: Scene) -> None:
    scene.update(StatementRow, 1, body=json.dumps(json.loads(scene.statement(1)), indent=1).encode())


def make_statement_unreadable(scene: Scene) -> None:
    scene.update(StatementRow, 1, body=b"[" * 100_000, sha256=sha256_hex(b"[" * 100_000))


def delete_statement(scene: Scene) -> None:
    with scene.database.begin() as connection:
        connection.execute(delete(StatementRow).where(StatementRow.job_id == scene.ids[1]))


def delete_artifact_row(scene: Scene) -> None:
    with scene.database.begin() as connection:
        which = (ArtifactRow.job_id == scene.ids[1]) & (ArtifactRow.number == 1)
        connection.execute(delete(ArtifactRow).where(which))


def alter_digest_of_row(scene: Scene) -> None:
    scene.update(ArtifactRow, 1, sha256="0" * 64)


def alter_size_of_row(scene: Scene) -> None:
    scene.update(ArtifactRow, 1, num_bytes=1)


def alter_key_of_row(scene: Scene) -> None:
    scene.update(ArtifactRow, 1, object_key=scene.artifact(0).key)


def alter_name_of_row(scene: Scene) -> None:
    with scene.database.begin() as connection:
        which = (ArtifactRow.job_id == scene.ids[1]) & (ArtifactRow.number == 0)
        connection.execute(update(ArtifactRow).where(which).values(name="article.html"))


def alter_tokens_of_row(scene: Scene) -> None:
    scene.update(JobRow, 1, new_tokens=10**6)


def alter_object(scene: Scene) -> None:
    alter_place(scene.store, scene.artifact(1), b"# forged\n")


def remove_object(scene: Scene) -> None:
    scene.store.delete(scene.artifact(1).key)


def alter_second_object(scene: Scene) -> None:
    alter_place(scene.store, scene.artifact(1, 1), b"forged notes")


def alter_copy_of_statement(scene: Scene) -> None:
    alter_place(scene.store, scene.copy(1), b"{}")


def remove_copy_of_statement(scene: Scene) -> None:
    copy = scene.copy(1)
    whole = scene.store.get(copy.key)
    scene.store.put(copy.key, whole[: copy.offset], media_type="application/zip")


def alter_object_and_its_row(scene: Scene) -> None:
    body = b"# forged\n"
    alter_object(scene)
    with scene.database.begin() as connection:
        which = (ArtifactRow.job_id == scene.ids[1]) & (ArtifactRow.number == 0)
        connection.execute(
            update(ArtifactRow).where(which).values(sha256=sha256_hex(body), num_bytes=len(body))
        )


def take_over_everything_of_another_job(scene: Scene) -> None:
    """Statement, artifacts, copies and digests are all valid: of the first job."""
    other = job_evidence(scene.database, [scene.ids[0]])[scene.ids[0]]
    assert other.statement is not None
    scene.update(
        StatementRow,
        1,
        body=other.statement.body,
        sha256=other.statement.sha256,
        object_key=other.statement.object_key,
        byte_offset=other.statement.byte_offset,
    )
    with scene.database.begin() as connection:
        for number, artifact in enumerate(other.artifacts):
            which = (ArtifactRow.job_id == scene.ids[1]) & (ArtifactRow.number == number)
            connection.execute(
                update(ArtifactRow)
                .where(which)
                .values(
                    sha256=artifact.sha256,
                    object_key=artifact.object_key,
                    byte_offset=artifact.byte_offset,
                    num_bytes=artifact.num_bytes,
                )
            )


ATTACKS: list[Callable[[Scene], None]] = [
    forge_statement,
    forge_statement_with_its_digest,
    forge_statement_and_its_key,
    change_whitespace,
    make_statement_unreadable,
    delete_statement,
    delete_artifact_row,
    alter_digest_of_row,
    alter_size_of_row,
    alter_key_of_row,
    alter_name_of_row,
    alter_tokens_of_row,
    alter_object,
    remove_object,
    alter_second_object,
    alter_copy_of_statement,
    remove_copy_of_statement,
    alter_object_and_its_row,
    take_over_everything_of_another_job,
]


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_altered_evidence_is_named_and_that_result_left_out(
    scene: Scene, attack: Callable[[Scene], None], tmp_path: Path
) -> None:
    attack(scene)
    report = batch_status(scene.database, scene.batch_id)
    summary = Summary(report=report, elapsed_seconds=1, startup_seconds=0)
    export_articles(scene.database, scene.store, summary, tmp_path)
    (altered,) = summary.altered
    assert (altered.job_id, altered.custom_id) == (scene.ids[1], "second")
    assert altered.code in ("artifact_altered", "statement_altered")
    assert {path.stem for path in (tmp_path / "articles").glob("*.md")} == {"first", "third"}
    listed = [json.loads(line)["id"] for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert listed == ["first", "third"]
    assert json.loads((tmp_path / "summary.json").read_text())["altered"] == [altered.as_json()]
    assert "left out" in (tmp_path / "index.html").read_text()
    with pytest.raises((ArtifactAlteredError, StatementAlteredError)):
        check_job(scene.database, scene.store, scene.ids[1], {"text": "second", "act": "write"})


def test_swapped_statements_of_two_jobs_leave_both_out(scene: Scene) -> None:
    bodies = [scene.statement(which) for which in (0, 1)]
    copies = [scene.copy(which) for which in (0, 1)]
    for which, other in ((0, 1), (1, 0)):
        digest = sha256_hex(bodies[other])
        scene.update(
            StatementRow,
            which,
            body=bodies[other],
            sha256=digest,
            object_key=copies[other].key,
            byte_offset=copies[other].offset,
        )
    altered: list[object] = []
    jobs = iter(job_evidence(scene.database, scene.ids).values())
    source = ResultReader(scene.database, scene.store, altered.append)
    assert [result.job.custom_id for result in source.read(jobs)] == ["third"]
    assert len(altered) == 2


def test_evidence_that_matches_is_told_as_it_was_committed(scene: Scene) -> None:
    jobs = iter(job_evidence(scene.database, scene.ids).values())
    fetched = list(ResultReader(scene.database, scene.store).read(jobs))
    assert sorted(result.bodies[0] for result in fetched) == [b"# first\n", b"# second\n", b"# third\n"]
    payload = {"text": "second", "act": "write"}
    assert check_job(scene.database, scene.store, scene.ids[1], payload) == scene.statement(1)


def test_another_input_than_the_statement_names_is_told_by_nobody(scene: Scene) -> None:
    with pytest.raises(StatementAlteredError, match="name different inputs"):
        check_job(scene.database, scene.store, scene.ids[1], {"text": "forged", "act": "write"})


def test_one_changed_byte_of_a_shared_pack_leaves_out_the_altered_part_alone(database: Engine) -> None:
    store = MemoryStore()
    batch_id = accept(database, 5)
    publisher = Publisher(store, CodeFacts("1.0", "test"))
    artifact = Artifact(name="a.txt", media_type="text/plain", body=b"0123456789")
    made = [prepared(store, job, [artifact]) for job in claim_batch(database, batch_id)]
    commit(database, publisher.store_pack(made))
    ids = job_ids(database, batch_id)
    place = artifact_place(database, ids[2])
    assert len(list(store.keys())) == 1
    alter_place(store, place, b"0123456780")
    altered: list[Altered] = []
    reader = ResultReader(database, store, altered.append)
    assert [result.job.job_id for result in reader.read_batch(batch_id)] == [*ids[:2], *ids[3:]]
    assert [(each.job_id, each.code) for each in altered] == [(ids[2], "artifact_altered")]
    assert place.range in altered[0].reason


@pytest.mark.parametrize(
    "values",
    [
        *({"num_bytes": 10**9}, {"num_bytes": 10**13}, {"num_bytes": 2**63 - 1}, {"num_bytes": -1}),
        *({"byte_offset": 10**12}, {"byte_offset": 2**63 - 1}, {"byte_offset": -5}, {"byte_offset": None}),
        *({"object_key": "PACKS/X"}, {"object_key": "packs/no/such"}, {"object_key": ""}),
    ],
    ids=str,
)
@pytest.mark.parametrize("store_name", ["memory", "filesystem", "s3"])
def test_row_that_points_beside_its_pack_leaves_out_its_own_job_alone(
    database: Engine,
    values: dict[str, object],
    store_name: str,
    request: pytest.FixtureRequest,
    tmp_path: Path,
) -> None:
    urls: dict[str, Callable[[], str]] = {
        "memory": lambda: "memory:",
        "filesystem": tmp_path.as_uri,
        "s3": lambda: str(request.getfixturevalue("s3_url")),
    }
    store = open_store(urls[store_name]())
    batch_id = accept(database, 3)
    publisher = Publisher(store, CodeFacts("1.0", "test"))
    artifact = Artifact(name="a.txt", media_type="text/plain", body=b"0123456789")
    made = [prepared(store, job, [artifact]) for job in claim_batch(database, batch_id)]
    commit(database, publisher.store_pack(made))
    ids = job_ids(database, batch_id)
    with database.begin() as connection:
        connection.execute(update(ArtifactRow).where(ArtifactRow.job_id == ids[1]).values(**values))
    altered: list[Altered] = []
    reader = ResultReader(database, store, altered.append)
    assert [result.job.job_id for result in reader.read_batch(batch_id)] == [ids[0], ids[2]]
    assert [each.code for each in altered] == ["artifact_altered"]

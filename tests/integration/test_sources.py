"""Files, objects and queries as a monitor's sources, over real servers."""

from __future__ import annotations

import gzip
import json
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from pydantic import ValidationError

from jobs.documents.document import Document
from jobs.errors import PermanentError, PressroomError, TransientError
from jobs.rejection import Rejected
from jobs.sources import FileSource, PrefixSource, QuerySource, Source
from kinds.recommendation.recommender import ServingPlace
from storage import open_store
from storage.store import Store
from workers.connectors.sources import ConnectedSources
from workers.delivery import WebhookTarget

VARIABLE = "NEWS_URL"


@pytest.fixture
def sources(s3_url: str) -> ConnectedSources:
    return ConnectedSources(open_store(s3_url))


def line(number: int, text: str = "Orders fell.") -> str:
    return json.dumps({"id": f"d{number}", "text": text, "published_at": "2026-03-02T09:30:00Z"}) + "\n"


def ids(sources: ConnectedSources, source: Source) -> list[str]:
    """Of documents; of what was refused, the code."""
    return [read.id if isinstance(read, Document) else read.code for read in sources.fetch(source)]


def refusal(sources: ConnectedSources, source: Source) -> PressroomError:
    with pytest.raises(PressroomError) as caught:
        list(sources.fetch(source))
    return caught.value


def test_file_is_read(sources: ConnectedSources, tmp_path: Path) -> None:
    path = tmp_path / "news.jsonl"
    path.write_text(line(1) + line(2))
    assert ids(sources, FileSource(path=str(path))) == ["d1", "d2"]


def test_folder_is_read_by_name_and_one_bad_file_does_not_stop_the_others(
    sources: ConnectedSources, tmp_path: Path
) -> None:
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(line(2).encode()))
    (tmp_path / "a.jsonl").write_text(line(1))
    (tmp_path / "aa.csv").write_text("no,such,columns\n1,2,3\n")
    (tmp_path / "c.jsonl.part").write_text(line(3))
    (tmp_path / ".d.jsonl").write_text(line(4))
    (tmp_path / "readme.md").write_text("# news")
    (tmp_path / "e").mkdir()

    assert ids(sources, FileSource(path=str(tmp_path))) == ["d1", "missing_column", "d2"]


def test_columns_of_other_names_are_read_from_a_folder_and_a_prefix(
    sources: ConnectedSources, store: Store, tmp_path: Path
) -> None:
    body = "nr,story,when\nd1,Acme shares fall.,2026-01-05T09:00:00Z\n"
    (tmp_path / "a.csv").write_text(body)
    store.put("in/a.csv", body.encode(), media_type="text/csv")
    columns = {"id": "nr", "text": "story", "published_at": "when"}
    for source in (
        FileSource(path=str(tmp_path), columns=columns),
        FileSource(path=str(tmp_path / "a.csv"), columns=columns),
        PrefixSource(prefix="in/", columns=columns),
    ):
        (read,) = sources.fetch(source)
        assert isinstance(read, Document)
        assert (read.id, read.text) == ("d1", "Acme shares fall.")


def test_columns_for_what_is_no_field_are_refused() -> None:
    with pytest.raises(ValidationError, match="did you mean 'published_at'"):
        FileSource(path="in", columns={"published": "when"})


def test_file_that_is_not_there_is_named(sources: ConnectedSources, tmp_path: Path) -> None:
    error = refusal(sources, FileSource(path=str(tmp_path / "absent.csv")))
    assert error.code == "source_missing"
    assert "absent.csv" in str(error)


def test_objects_below_a_prefix_are_read_and_refusals_name_the_object(
    sources: ConnectedSources, store: Store
) -> None:
    store.put("news/b.jsonl", (line(2) + "{}\n").encode(), media_type="application/jsonl")
    store.put("news/a.jsonl", line(1).encode(), media_type="application/jsonl")
    store.put("news/notes.txt", b"nothing", media_type="text/plain")
    store.put("other/c.jsonl", line(3).encode(), media_type="application/jsonl")

    read = list(sources.fetch(PrefixSource(prefix="news/")))
    assert [one.id for one in read if isinstance(one, Document)] == ["d1", "d2"]
    assert [(one.file, one.line) for one in read if isinstance(one, Rejected)] == [("news/b.jsonl", 2)]


def test_another_store_is_named_by_a_variable(
    sources: ConnectedSources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jsonl").write_text(line(1))
    source = PrefixSource(prefix="in/", url_variable=VARIABLE)
    assert refusal(sources, source).code == "source_variable_missing"

    monkeypatch.setenv(VARIABLE, tmp_path.as_uri())
    assert ids(sources, source) == ["d1"]


def test_store_that_is_down_may_come_back(sources: ConnectedSources, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "http://key:secret@127.0.0.1:1/bucket")
    error = refusal(sources, PrefixSource(prefix="in/", url_variable=VARIABLE))
    assert isinstance(error, TransientError)
    assert "secret" not in str(error)


@pytest.fixture
def news_table(empty_database_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A database of somebody else's, with 1,200 rows of news."""
    with psycopg.connect(empty_database_url) as connection:
        connection.execute(
            "CREATE TABLE news AS SELECT 'n' || i AS id, 'Orders fell by ' || i AS text, "
            "timestamptz '2026-03-01 12:00Z' + i * interval '1 minute' AS published_at "
            "FROM generate_series(1, 1200) AS i"
        )
    monkeypatch.setenv(VARIABLE, empty_database_url)
    return empty_database_url


def query(sql: str) -> QuerySource:
    return QuerySource(url_variable=VARIABLE, sql=sql)


def test_rows_of_a_query_become_documents(sources: ConnectedSources, news_table: str) -> None:
    read = ids(sources, query("SELECT id, text, published_at FROM news WHERE text LIKE '%1%' ORDER BY 3;"))
    assert read[:3] == ["n1", "n10", "n11"]
    assert len(ids(sources, query("SELECT * FROM news"))) == 1200


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM news",
        "SELECT * FROM news; DELETE FROM news",
        "SELECT * FROM news; COMMIT; DELETE FROM news",
        "WITH gone AS (DELETE FROM news RETURNING *) SELECT * FROM gone",
        "SELECT id, text, published_at FROM news, set_config('transaction_read_only', 'off', true)",
        "SELEKT",
        "SELECT * FROM absent",
    ],
)
def test_query_that_is_no_reading_is_refused_and_changes_nothing(
    sources: ConnectedSources, news_table: str, sql: str
) -> None:
    error = refusal(sources, query(sql))
    assert error.code == "source_query_failed"
    assert isinstance(error, PermanentError)
    with psycopg.connect(news_table) as connection:
        assert connection.execute("SELECT count(*) FROM news").fetchone() == (1200,)


def test_query_without_the_columns_of_documents_is_refused_at_once(
    sources: ConnectedSources, news_table: str
) -> None:
    assert refusal(sources, query("SELECT id, text FROM news")).code == "missing_column"


def test_query_that_takes_too_long_is_ended(
    sources: ConnectedSources, news_table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.connectors.query.DEADLINE_SECONDS", 0.2)
    for sql in (
        "SELECT *, pg_sleep(30) FROM news",
        "SELECT *, pg_sleep(30) FROM news, set_config('statement_timeout', '0', false)",
    ):
        error = refusal(sources, query(sql))
        assert isinstance(error, TransientError)


@pytest.mark.attack("query that reads files or writes")
def test_query_in_the_role_of_a_superuser_is_refused(
    sources: ConnectedSources, superuser_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, superuser_url)
    error = refusal(sources, query("SELECT pg_read_file('/etc/passwd') AS text"))
    assert error.code == "source_role_too_powerful"
    assert "superuser" in str(error)
    assert "CREATE ROLE" in str(error)


@pytest.mark.attack("query that reads files or writes")
def test_query_in_a_role_that_may_become_a_superuser_is_refused(
    sources: ConnectedSources, superuser_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with psycopg.connect(superuser_url, autocommit=True) as connection:
        connection.execute("CREATE ROLE climber LOGIN PASSWORD 'climbs' NOINHERIT")
        connection.execute("GRANT postgres TO climber")
    try:
        parameters = conninfo_to_dict(superuser_url, user="climber", password="climbs")
        monkeypatch.setenv(VARIABLE, make_conninfo("", **parameters))
        sql = (
            "SELECT set_config('role', 'postgres', false) AS id, now() AS published_at, "
            "query_to_xml('SELECT pg_read_file(''/etc/passwd'')', true, true, '')::text AS text"
        )
        error = refusal(sources, query(sql))
    finally:
        with psycopg.connect(superuser_url, autocommit=True) as connection:
            connection.execute("DROP ROLE climber")
    assert error.code == "source_role_too_powerful"
    assert "postgres" in str(error)


@pytest.mark.attack("query that reads files or writes")
def test_query_in_pressrooms_own_role_runs_in_the_readers(
    sources: ConnectedSources, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRESSROOM_DB_URL", database_url)
    monkeypatch.setenv(VARIABLE, database_url)
    who = "SELECT session_user || current_user AS id, 'Orders fell' AS text, now() AS published_at"
    assert ids(sources, query(who)) == ["readerreader"]
    for sql in (
        "SELECT set_config('role', 'app', false) AS id, '' AS text, now() AS published_at",
        "SELECT pg_terminate_backend(pid)::text AS id, '' AS text, now() AS published_at "
        "FROM pg_stat_activity WHERE usename = 'app'",
        "SELECT pg_read_file('/etc/passwd') AS id, '' AS text, now() AS published_at",
    ):
        with psycopg.connect(database_url):  # a session of Pressroom's own, to be ended
            assert refusal(sources, query(sql)).code == "source_query_failed"


@pytest.mark.attack("query that reads files or writes")
@pytest.mark.parametrize("name", ["PRESSROOM_DB_URL", "pressroom_s3_url", "PRESSROOM_ANYTHING"])
def test_settings_of_pressroom_are_refused_as_variables(name: str) -> None:
    with pytest.raises(ValidationError, match="is a setting of Pressroom itself"):
        QuerySource(url_variable=name, sql="SELECT 1")
    with pytest.raises(ValidationError, match="is a setting of Pressroom itself"):
        PrefixSource(prefix="a/", url_variable=name)
    with pytest.raises(ValidationError, match="is a setting of Pressroom itself"):
        WebhookTarget(name="ops", url_variable="OPS_URL", secret_variable=name)
    with pytest.raises(ValidationError, match="is a setting of Pressroom itself"):
        ServingPlace(url_variable=name)


def test_database_that_is_down_may_come_back(
    sources: ConnectedSources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "postgresql://me:secret@127.0.0.1:1/news")
    error = refusal(sources, query("SELECT 1"))
    assert isinstance(error, TransientError)
    assert "secret" not in str(error)


@contextmanager
def silent_postgres() -> Iterator[int]:
    """The port of a server that lets anybody in and then answers nothing, not even a cancellation."""

    def message(kind: bytes, body: bytes) -> bytes:
        return kind + struct.pack("!I", len(body) + 4) + body

    welcome = message(b"R", bytes(4)) + message(b"K", bytes(8)) + message(b"Z", b"I")

    def answer(client: socket.socket) -> None:
        with client:
            client.recv(1024)  # user and database, or the number of a session to cancel
            client.sendall(welcome)
            while client.recv(1024):
                pass

    def serve() -> None:
        while True:
            try:
                client, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(client,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


@pytest.mark.timeout(30)
def test_database_that_falls_silent_is_cut_off(
    sources: ConnectedSources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.connectors.query.DEADLINE_SECONDS", 0.1)
    monkeypatch.setattr("workers.connectors.query.CANCEL_SECONDS", 0.1)
    with silent_postgres() as port:
        monkeypatch.setenv(VARIABLE, f"postgresql://me:secret@127.0.0.1:{port}/news?sslmode=disable")
        assert isinstance(refusal(sources, query("SELECT 1")), TransientError)


@pytest.mark.usefixtures("news_table")
def test_rows_that_python_cannot_hold_are_refused_alone(sources: ConnectedSources) -> None:
    values = "('a', '2024-05-01'), ('b', 'infinity'), ('c', '20000-01-01'), ('d', '2024-05-02')"
    columns = "id, 'Acme rises' AS text, at::timestamptz AS published_at"
    sql = f"SELECT {columns} FROM (VALUES {values}) AS t (id, at)"
    assert ids(sources, query(sql)) == ["a", "document_date_invalid", "document_date_invalid", "d"]


def test_dates_of_a_folder_are_read_in_the_order_that_its_source_names(
    sources: ConnectedSources, tmp_path: Path
) -> None:
    (tmp_path / "a.csv").write_text("id,text,date\n1,Acme rises,2/1/2024\n")
    for order, month in (("day-first", 1), ("month-first", 2)):
        source = FileSource.model_validate({"path": str(tmp_path), "date_order": order})
        (document,) = sources.fetch(source)
        assert isinstance(document, Document)
        assert document.published_at.month == month

"""Embedded services and the process that owns them: who may run them, and what a kill leaves behind."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg
import pytest
from redis import Redis

from pressroom.embedded.home import HomeLockedError
from pressroom.embedded.services import Services, ServiceUrls, embedded_services, find_running
from storage import open_store
from tests.service_owner import Owner, Refusal, owner_of
from tests.services import embedded_settings

END_SECONDS = 30.0
"""Servers whose owner was killed end in well under a second; a busy machine is given more."""


@dataclass(frozen=True, slots=True)
class User:
    """As whom an owner runs."""

    name: str
    uid: int | None = None
    forbid_namespaces: bool = False

    @property
    def postgres_uid(self) -> int:
        """As whom the files see Postgres: as this user, only root without namespaces becomes `nobody`."""
        if self.forbid_namespaces:
            return pwd.getpwnam("nobody").pw_uid
        return self.uid if self.uid is not None else os.geteuid()


def _users() -> list[User]:
    """Root can be anyone; a normal user only itself."""
    if os.geteuid() != 0:
        return [User("this user")]
    return [
        User("root"),
        User("root where user namespaces are forbidden", forbid_namespaces=True),
        User("normal user", uid=65534),
        User("user without a passwd entry", uid=54321),
    ]


@pytest.fixture
def closed_folder() -> Iterator[Path]:
    """A 0700 folder outside of pytest's own, which other users may not enter."""
    folder = Path(tempfile.mkdtemp(prefix="pressroom-test-"))
    yield folder
    shutil.rmtree(folder)


def leave_traces(urls: ServiceUrls) -> None:
    with psycopg.connect(urls.db_url, autocommit=True) as connection:
        connection.execute("CREATE TABLE trace (id int PRIMARY KEY)")
        connection.execute("INSERT INTO trace SELECT generate_series(1, 1000)")
    with Redis.from_url(urls.redis_url) as client:
        client.rpush("trace", *range(1000))
    open_store(urls.s3_url).put("a/trace", b"kept", media_type="text/plain")


def assert_traces(urls: ServiceUrls) -> None:
    with psycopg.connect(urls.db_url) as connection:
        assert connection.execute("SELECT count(*) FROM trace").fetchone() == (1000,)
    with Redis.from_url(urls.redis_url) as client:
        assert client.llen("trace") == 1000
    assert open_store(urls.s3_url).get("a/trace") == b"kept"


def assert_ended(pids: dict[str, int]) -> None:
    running = [psutil.Process(pid) for pid in pids.values() if psutil.pid_exists(pid)]
    _, alive = psutil.wait_procs([process for process in running if not _is_zombie(process)], END_SECONDS)
    assert not [process for process in alive if not _is_zombie(process)]


def _is_zombie(process: psutil.Process) -> bool:
    """Ended, and not yet collected by whoever inherited it."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.mark.parametrize("user", _users(), ids=lambda user: user.name)
def test_services_run_under_a_closed_folder_and_keep_their_data_as(user: User, closed_folder: Path) -> None:
    if user.uid is not None:
        os.chown(closed_folder, user.uid, user.uid)
    home = closed_folder / "home"

    with owner_of(home, uid=user.uid, forbid_namespaces=user.forbid_namespaces) as owner:
        assert isinstance(owner, Owner), owner
        postgres = psutil.Process(owner.pids["db_url"])
        assert (postgres.name(), postgres.uids().real) == ("postgres", user.postgres_uid)
        leave_traces(owner.urls)
    assert_ended(owner.pids)

    with owner_of(home, uid=user.uid, forbid_namespaces=user.forbid_namespaces) as again:
        assert isinstance(again, Owner), again
        assert_traces(again.urls)
    assert again.urls == owner.urls


def test_root_may_change_between_namespace_and_nobody(closed_folder: Path) -> None:
    """A container's rules may change over the same data; for a normal user both starts are the same."""
    is_root = os.geteuid() == 0
    with owner_of(closed_folder, forbid_namespaces=is_root) as owner:
        assert isinstance(owner, Owner), owner
        leave_traces(owner.urls)

    with owner_of(closed_folder) as again:
        assert isinstance(again, Owner), again
        assert_traces(again.urls)


def test_data_survives_kill_of_everything_at_once(tmp_path: Path) -> None:
    with owner_of(tmp_path) as owner:
        assert isinstance(owner, Owner), owner
        leave_traces(owner.urls)
        for pid in (owner.process.pid, *owner.pids.values()):
            os.kill(pid, signal.SIGKILL)
        owner.process.wait()

    with Services(embedded_settings(tmp_path), print) as services:
        assert_traces(services.urls)
        assert services.urls == owner.urls


def test_services_end_with_a_killed_owner_and_the_next_one_recovers(tmp_path: Path) -> None:
    with owner_of(tmp_path) as owner:
        assert isinstance(owner, Owner), owner
        leave_traces(owner.urls)
        owner.process.kill()
        owner.process.wait()

    with Services(embedded_settings(tmp_path), print) as services:  # at once: they may be ending still
        assert_ended(owner.pids)
        assert_traces(services.urls)


def test_stale_postmaster_pid_that_another_process_has_now_does_not_block(tmp_path: Path) -> None:
    with owner_of(tmp_path) as owner:
        assert isinstance(owner, Owner), owner
        lock_file = tmp_path / "postgres" / "data" / "postmaster.pid"
        content = lock_file.read_text(encoding="ascii").splitlines()
    lock_file.write_text("\n".join([str(os.getppid()), *content[1:], ""]), encoding="ascii")

    with Services(embedded_settings(tmp_path), print) as services:
        assert find_running(embedded_settings(tmp_path)) == services.urls


def test_half_made_cluster_of_a_killed_first_start_is_made_again(tmp_path: Path) -> None:
    unfinished = tmp_path / "postgres" / "unfinished" / "data"
    unfinished.mkdir(parents=True)
    (unfinished / "PG_VERSION").write_text("18\n", encoding="ascii")

    with Services(embedded_settings(tmp_path), print) as services:
        leave_traces(services.urls)
    assert not unfinished.exists()


def test_locked_home_names_the_pid_that_holds_it(tmp_path: Path) -> None:
    with owner_of(tmp_path) as owner:
        assert isinstance(owner, Owner), owner
        with pytest.raises(HomeLockedError, match=rf"pid {owner.process.pid}\b.*PRESSROOM_HOME") as refusal:
            Services(embedded_settings(tmp_path), print).__enter__()
        assert refusal.value.code == "home_locked"

        with owner_of(tmp_path) as second:
            assert isinstance(second, Refusal)
            assert second.code == "home_locked"


def test_another_process_finds_the_running_services_and_starts_none(tmp_path: Path) -> None:
    settings = embedded_settings(tmp_path)
    assert find_running(settings) is None

    with owner_of(tmp_path) as owner:
        assert isinstance(owner, Owner), owner
        assert find_running(settings) == owner.urls
        lines: list[str] = []
        with embedded_services(settings, lines.append) as urls:
            assert urls == owner.urls
        assert lines == []
        assert find_running(settings) == owner.urls

    assert find_running(settings) is None
    with embedded_services(settings, lines.append) as urls:
        assert urls == owner.urls
    assert len(lines) == 1
    assert find_running(settings) is None


def test_two_homes_run_side_by_side(tmp_path: Path) -> None:
    with owner_of(tmp_path / "one") as first, owner_of(tmp_path / "two") as second:
        assert isinstance(first, Owner), first
        assert isinstance(second, Owner), second
        leave_traces(first.urls)
        leave_traces(second.urls)
        first.end()
        assert_traces(second.urls)
        with Services(embedded_settings(tmp_path / "one"), print) as again:
            assert_traces(again.urls)
            assert_traces(second.urls)

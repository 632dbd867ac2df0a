"""The home folder holds passwords and says which services to trust: nobody else may own it or write to it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from pressroom.embedded.home import Home, HomeUnsafeError

pytestmark = pytest.mark.attack("home folder of somebody else")


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def others_folder(tmp_path: Path) -> Path:
    if os.geteuid() != 0:
        return Path("/usr")
    folder = tmp_path / "others"
    folder.mkdir(mode=0o755)
    (folder / "lock").touch()
    os.chown(folder, 65534, 65534)
    return folder


def test_a_home_that_somebody_else_owns_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(HomeUnsafeError, match="belongs to the user") as caught:
        Home(others_folder(tmp_path)).own()
    assert caught.value.code == "home_unsafe"


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o775, 0o1777, 0o702])
def test_a_home_that_others_may_write_to_is_refused_by_name(mode: int, tmp_path: Path) -> None:
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / "lock").touch()
    folder.chmod(mode)
    for use in (Home(folder).own, Home(folder).is_owned):
        with pytest.raises(HomeUnsafeError, match=f"{mode:o}.*chmod 700 {folder}"):
            use()


def test_a_home_that_anybody_may_replace_is_refused_by_name(tmp_path: Path) -> None:
    parent = tmp_path / "parent"
    parent.mkdir()
    parent.chmod(0o777)
    with pytest.raises(HomeUnsafeError, match=f"{parent} has mode 777"):
        Home(parent / "home").own()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives folders away")
@pytest.mark.parametrize("mode", [0o755, 0o1777])
def test_a_home_in_a_folder_of_somebody_else_is_refused_by_name(mode: int, tmp_path: Path) -> None:
    parent = tmp_path / "parent"
    parent.mkdir()
    parent.chmod(mode)
    os.chown(parent, 12345, 12345)
    with pytest.raises(HomeUnsafeError, match="the user 12345 may replace the home folder"):
        Home(parent / "home").own()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives folders away")
def test_a_home_that_another_group_may_replace_is_refused_by_name(tmp_path: Path) -> None:
    parent = tmp_path / "parent"
    parent.mkdir()
    os.chown(parent, 0, 12345)
    parent.chmod(0o775)
    with pytest.raises(HomeUnsafeError, match=f"the group 12345 .*`chmod g-w {parent}`"):
        Home(parent / "home").own()
    os.chown(parent, 0, os.getegid())  # a group of one's own, as many systems give each user
    home = Home(parent / "home")
    home.own()
    home.release()


def test_a_home_and_its_lock_are_closed_to_others(tmp_path: Path) -> None:
    folder = tmp_path / "home"
    folder.mkdir(mode=0o755)
    (folder / "lock").touch(mode=0o644)
    home = Home(folder)
    home.own()
    try:
        assert mode_of(folder) & ~0o711 == 0
        assert mode_of(folder / "lock") == 0o600
        assert mode_of(folder / "logs") == 0o700
        home.passwords()
        assert mode_of(folder / "secrets.json") == 0o600
    finally:
        home.release()


def test_the_lock_of_a_new_home_is_its_owners(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.own()
    assert mode_of(tmp_path / "home" / "lock") == 0o600
    home.release()

"""Kinds are found by entry points."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from jobs.registry import kind_names, load_kind, load_kinds


def test_a_kind_that_cannot_be_loaded_keeps_no_other_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    package = tmp_path / "a_broken_kind-1.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: a-broken-kind\nVersion: 1\n")
    (package / "entry_points.txt").write_text("[pressroom.kinds]\na_broken_kind = nowhere_at_all:Kind\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert "a_broken_kind" in kind_names()
    with caplog.at_level(logging.WARNING):
        load_kinds()
    assert [record.__dict__["kind"] for record in caplog.records] == ["a_broken_kind"]
    assert load_kind.cache_info().currsize >= len(kind_names()) - 1

"""The wheel is whole: installed outside the checkout, it makes each kind's content."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import pytest

from examples.recommendations.shop import CATALOGUE, INTERACTIONS, write_shop
from tests.acceptance.running import pressroom, write_briefs
from tests.tiny_encoder import write_manifest, write_scripted_encoder

ROOT = Path(__file__).parents[2]
TARGETS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]
PACKAGES: list[str] = TARGETS["wheel"]["packages"]
PIP = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
WATCHLIST = 'name = "desk"\n[[company]]\nname = "Acme Steel"\n[[company]]\nname = "Borealis Foods"\n'


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = (*PIP, "wheel", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", folder, ROOT)
    subprocess.run(command, check=True, timeout=120)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture
def home(wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home; commands and what they start import the wheel that is installed beside it."""
    site = tmp_path / "site"
    command = (*PIP, "install", "--no-deps", "--no-index", "--no-compile", "--target", site, wheel)
    subprocess.run(command, check=True, timeout=120)
    monkeypatch.setenv("PYTHONPATH", str(site))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


def test_wheel_has_every_file_of_the_packages_and_each_package(wheel: Path) -> None:
    files = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    names = set(zipfile.ZipFile(wheel).namelist())
    assert files - names == set()


def test_installed_wheel_writes_articles(home: Path, model_folder: Path) -> None:
    briefs, out = write_briefs(home.parent / "briefs.csv", 2), home.parent / "out"
    environment = {"models_dir": str(model_folder.parent), "engine": "scripted"}
    with pressroom(home, "run", "articles", briefs, "--out", out, "--json", **environment) as run:
        code, printed = run.finish()
    assert (code, printed["counts"]["succeeded"]) == (0, 2), run.stderr
    assert "Title 1" in (out / "index.html").read_text()
    assert_imported_from(home.parent / "site")


def test_installed_wheel_reports_sentiment(home: Path) -> None:
    models, out = home.parent / "models", home.parent / "out"
    write_manifest(write_scripted_encoder(models / "moods"), "moods", "classify")
    (home.parent / "watch.toml").write_text(WATCHLIST)
    feed = home.parent / "feed.jsonl"
    at = datetime(2026, 1, 5, 9, tzinfo=UTC).isoformat()
    lines = [
        {"id": name, "text": f"{name} beats all forecasts", "published_at": at, "language": "en"}
        for name in ("Acme Steel", "Borealis Foods")
    ]
    feed.write_text("".join(json.dumps(line) + "\n" for line in lines))
    options = ("--model", "moods", "--embedder", "none", "--summarizer", "none", "--device", "cpu")
    profiles = json.dumps({"moods": {"models": ["moods"]}})
    command = ("run", "sentiment", feed, "--watch", home.parent / "watch.toml", "--out", out, *options)
    environment = {"models_dir": str(models), "engine": "scripted", "profiles": profiles}
    with pressroom(home, *command, "--json", **environment) as run:
        code, printed = run.finish()
    assert code == 0, run.stderr
    assert printed["figures"]["documents"]["num_documents"] == 2
    assert sorted((out / "reports").glob("*.md"))


def test_installed_wheel_ranks_recommendations(home: Path) -> None:
    shop, out = home.parent / "shop", home.parent / "out"
    write_shop(shop, num_users=60, num_items=40)
    files = ("--catalogue", shop / CATALOGUE, "--interactions", shop / INTERACTIONS)
    plain = ("--model", "none", "--embedder", "none")
    with pressroom(home, "run", "recommendations", *files, *plain, "--out", out, "--json") as run:
        code, printed = run.finish()
    assert code == 0, run.stderr
    assert printed["release"]["num_users"] > 0
    assert (out / "index.html").is_file()


def test_installed_wheel_knows_the_bundled_model(home: Path) -> None:
    program = "from workers.models.catalogue import CATALOGUE as c; print(c['finance-sentiment'].revision)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert len(done.stdout.strip()) == 64
    assert_imported_from(home.parent / "site")


def test_installed_wheel_has_its_recipes(home: Path) -> None:
    with pressroom(home, "recipes", "list", "--json") as run:
        code, listed = run.finish()
    assert code == 0, run.stderr
    for recipe in listed["recipes"]:
        assert Path(recipe["folder"]).is_relative_to(home.parent / "site")
        with pressroom(home, "recipes", "check", recipe["name"], "--json") as run:
            code, checked = run.finish()
        assert (code, checked["problems"], checked["num_examples"]) == (0, [], 10)


def assert_imported_from(site: Path) -> None:
    """Every package, by a process that starts as the commands do."""
    program = f"import {', '.join(PACKAGES)}; print(*(each.__file__ for each in ({', '.join(PACKAGES)})))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert [Path(name).parents[1] for name in done.stdout.split()] == [site] * len(PACKAGES)

"""A classifier whose author published a list of words instead of a tokenizer.json, from a hub."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import BertTokenizer

from jobs.inference import TextPair
from tests.fakes import load_nothing
from tests.integration.hub_server import serve_hub
from tests.tiny_bert import DIGITS, SPECIAL, WORDS, write_tiny_bert
from workers.engine import EncoderRequest, EngineOptions
from workers.model_pool import load_models
from workers.models.files import MalformedFileError
from workers.models.install import Installation, add_model
from workers.models.preparation import TOKENIZER, VOCABULARY
from workers.models.sources import HubSource
from workers.tokenizer import load_row_tokenizer

REPOSITORY, REVISION = "analysts/finbert", "b" * 40
TEXTS = ("Acme's Profit rises, 12%", "naïve 公司 shares fall", "x" * 90, "")
MARKS = ("'", "s", "##s", ",", "%", "公", "naive")
WORD_LIST = (*SPECIAL, *(word.lower() for word in WORDS), *DIGITS[: -len(MARKS)], *MARKS)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = write_tiny_bert(tmp_path / "hub", labels={0: "positive", 1: "negative", 2: "neutral"})
    for name in (TOKENIZER, "classifier.json"):
        (folder / name).unlink(missing_ok=True)
    (folder / VOCABULARY).write_text("\n".join(WORD_LIST) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": True}))
    return folder


def install(repository: Path, models: Path) -> Installation:
    with serve_hub(repository, REPOSITORY, REVISION) as (endpoint, _):
        return add_model(
            "finbert", models, HubSource(REPOSITORY, REVISION, endpoint=endpoint), trial=load_nothing
        )


def test_rows_are_those_of_the_tokenizer_it_was_trained_with(repository: Path, tmp_path: Path) -> None:
    installed = install(repository, tmp_path / "models")
    rows = load_row_tokenizer(installed.folder)
    theirs = BertTokenizer.from_pretrained(repository)
    for text in TEXTS:
        (row,) = rows.encode([TextPair(text)])
        assert list(row.token_ids) == theirs(text)["input_ids"]
    assert len(set(rows.encode([TextPair("profit rises 12")])[0].token_ids)) == 5


def test_it_classifies_with_its_own_names_of_classes(repository: Path, tmp_path: Path) -> None:
    models = tmp_path / "models"
    install(repository, models)
    warm = load_models(models, ["finbert"], engine="transformers", options=EngineOptions(num_threads=1))
    try:
        encoder = warm.encoder("finbert", "classify")
        rows = encoder.tokenizer.encode([TextPair("Acme profit rises")])
        (answer,) = encoder.engine.submit(EncoderRequest(request_id="r", rows=rows)).result(60)
        assert sum(answer) == pytest.approx(1.0, abs=1e-5)
    finally:
        warm.close()


def test_a_list_without_the_usual_marks_wants_its_own_tokenizer(repository: Path, tmp_path: Path) -> None:
    (repository / VOCABULARY).write_text("<s>\n</s>\nprofit\n")
    with pytest.raises(MalformedFileError, match=r"has no \[PAD\], \[UNK\].*tokenizer.json"):
        install(repository, tmp_path / "models")

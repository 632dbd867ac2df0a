"""What a classifier's outputs mean: by its own settings, by its config, or by what the user says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobs.inference import ModelTaskError, OtherLabelsError
from tests.tiny_encoder import write_manifest, write_scripted_encoder
from workers.models.classifier import (
    CLASSIFIER,
    LabelsUnknownError,
    parse_labels,
    read_classifier_settings,
    settle_classifier,
)
from workers.models.files import MalformedFileError, task_of
from workers.models.manifest import require_labels

LABELS = ("negative", "neutral", "positive")


def folder_with(path: Path, names: dict[str, str]) -> Path:
    config = {"architectures": ["BertForSequenceClassification"], "max_position_embeddings": 512}
    (path / "config.json").write_text(json.dumps({**config, "id2label": names}))
    return path


@pytest.mark.parametrize(
    ("names", "places"),
    [
        ({"0": "positive", "1": "negative", "2": "neutral"}, (1, 2, 0)),
        ({"0": "Neutral", "1": "Positive", "2": "Negative"}, (2, 0, 1)),
        ({"0": "Bearish", "1": "Neutral", "2": "Bullish"}, (0, 1, 2)),
    ],
)
def test_the_names_of_published_models_are_understood(
    tmp_path: Path, names: dict[str, str], places: tuple[int, ...]
) -> None:
    settle_classifier(folder_with(tmp_path, names))
    settings = read_classifier_settings(tmp_path)
    assert tuple(settings.labels[label] for label in LABELS) == places
    assert (settings.temperature, settings.input) == (1.0, "text")


@pytest.mark.parametrize(
    "names",
    [
        {"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"},
        {"0": "spam", "1": "LABEL_1"},
        {"0": "negative", "1": "bearish", "2": "positive"},
        {"0": "the only one"},
        {"first": "spam", "second": "ham"},
        {},
    ],
)
def test_outputs_without_a_clear_name_are_refused_with_what_to_do(
    tmp_path: Path, names: dict[str, str]
) -> None:
    with pytest.raises(LabelsUnknownError, match="--labels negative=0,neutral=1,positive=2"):
        settle_classifier(folder_with(tmp_path, names))


def test_what_the_user_says_goes_before_what_the_model_says(tmp_path: Path) -> None:
    settle_classifier(
        folder_with(tmp_path, {"0": "LABEL_0"}), parse_labels("positive=0,neutral=1,negative=2")
    )
    assert read_classifier_settings(tmp_path).labels == {"positive": 0, "neutral": 1, "negative": 2}


def test_settings_of_its_own_are_kept_and_checked(tmp_path: Path) -> None:
    folder_with(tmp_path, {"0": "LABEL_0"})
    own = {"labels": {"negative": 0, "neutral": 1, "positive": 2}, "temperature": 1.5, "max_tokens": 96}
    (tmp_path / CLASSIFIER).write_text(json.dumps(own))
    settle_classifier(tmp_path)
    assert read_classifier_settings(tmp_path).temperature == 1.5
    (tmp_path / CLASSIFIER).write_text(
        json.dumps({**own, "labels": {"negative": 0, "neutral": 0, "positive": 2}})
    )
    with pytest.raises(MalformedFileError, match="must have exactly one"):
        settle_classifier(tmp_path)


@pytest.mark.parametrize(
    "text",
    ["negative=0", "negative=0,neutral=1,positive=1", "a=0,b=2", "a=0,a=1", "a=0,=1", "a=x,b=1", "0,1,2", ""],
)
def test_labels_that_do_not_name_each_output_once_are_refused(text: str) -> None:
    with pytest.raises(LabelsUnknownError):
        parse_labels(text)


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        ({"0": "negative", "1": "positive"}, ("negative", "positive")),
        ({"0": "negative", "1": "neutral", "2": "positive", "3": "mixed"}, (*LABELS, "mixed")),
        ({"1": "Ham", "0": "SPAM"}, ("spam", "ham")),
        ({str(place): f"topic {place}" for place in range(20)}, tuple(f"topic {n}" for n in range(20))),
    ],
)
def test_model_of_any_labels_is_read_in_the_order_of_its_outputs(
    tmp_path: Path, names: dict[str, str], labels: tuple[str, ...]
) -> None:
    settle_classifier(folder_with(tmp_path, names))
    assert read_classifier_settings(tmp_path).names == labels


def test_model_with_other_labels_is_refused_by_name_where_some_are_needed(tmp_path: Path) -> None:
    write_manifest(write_scripted_encoder(tmp_path / "moods"), "moods", "classify")
    require_labels(tmp_path, "moods", LABELS)
    require_labels(tmp_path, "moods", tuple(reversed(LABELS)))
    with pytest.raises(OtherLabelsError, match="answers with the labels positive, neg") as refusal:
        require_labels(tmp_path, "moods", ("spam", "ham"))
    assert refusal.value.code == "model_labels_mismatch"
    write_manifest(write_scripted_encoder(tmp_path / "vectors", "embed"), "vectors", "embed")
    with pytest.raises(ModelTaskError, match="a classifier is needed"):
        require_labels(tmp_path, "vectors", LABELS)


def test_the_task_follows_from_the_architecture() -> None:
    tasks = {
        name: task_of({"architectures": [name]})
        for name in ("LlamaForCausalLM", "BertModel", "RobertaForSequenceClassification", "GPT2LMHeadModel")
    }
    assert list(tasks.values()) == ["generate", "embed", "classify", "generate"]

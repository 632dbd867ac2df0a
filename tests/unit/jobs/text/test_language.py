"""The language of a text, and tags of languages."""

from __future__ import annotations

import threading

import pytest

from jobs.text.language import (
    LanguageTagError,
    detect_language,
    language_confidence,
    language_name,
    normal_tag,
)

BREAD = "Bread needs flour and time."


def test_languages_are_told_apart() -> None:
    texts = {
        "en": "Bread at home needs only four things, and the most important of them is time.",
        "fr": "Le pain à la maison ne demande que quatre choses, et la plus importante est le temps.",
        "es": "El pan casero solo necesita cuatro cosas, y la más importante de ellas es el tiempo.",
        "ja": "家でパンを作るには四つのものが必要で、一番大切なのは時間です。",
    }
    assert {code: detect_language(text) for code, text in texts.items()} == {code: code for code in texts}
    assert detect_language("12345 !?") is None


def test_confidence_in_a_language_is_of_its_words() -> None:
    assert language_confidence("cuts thousands of jobs", "en") > 0.5
    assert language_confidence("licenzia operai", "en") < 0.01
    assert language_confidence("12345 !?", "en") == 0


def test_language_models_load_once_for_many_threads() -> None:
    found: list[str | None] = []
    threads = [threading.Thread(target=lambda: found.append(detect_language(BREAD))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["en"] * 8


@pytest.mark.parametrize(
    ("tag", "normal", "name"),
    [
        ("EN", "en", "English"),
        ("pt_br", "pt-BR", "Portuguese"),
        ("zh-hant-TW", "zh-Hant-TW", "Chinese"),
        ("deu", "deu", "German"),
    ],
)
def test_language_tag_is_normalised_and_named(tag: str, normal: str, name: str) -> None:
    assert normal_tag(tag) == normal
    assert language_name(normal) == name


@pytest.mark.parametrize("tag", ["", "e", "english", "en-", "en--US", "e1", "en US", "x-private"])
def test_what_is_no_language_tag_is_refused(tag: str) -> None:
    with pytest.raises(LanguageTagError):
        normal_tag(tag)

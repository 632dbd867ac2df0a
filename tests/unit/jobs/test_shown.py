"""Foreign text cannot act where it is shown: on a terminal, in a log, in Markdown and its front matter."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from jobs.shown import inline_markdown, json_text, printable, shown, shown_lines
from kinds.article.brief import ArticleBrief
from kinds.article.kind import _front_matter
from kinds.recommendation.export.files import json_line
from kinds.sentiment.report.files import escape_markdown
from pressroom.console import print_json, print_line, say
from workers.logs import SentenceFormatter

pytestmark = pytest.mark.attack("control characters in a name or a text")

ACTING = [
    *map(chr, (*range(32), *range(127, 160))),
    *"\u2028\u2029\u200b\u200e\u200f\u061c\ufeff\u00ad\ue000\ud800",
]
ACTING += [*map(chr, (*range(0x202A, 0x202F), *range(0x2066, 0x206A))), "\U000e0041"]


@pytest.mark.parametrize("character", ACTING, ids=lambda character: f"U+{ord(character):04X}")
def test_a_character_that_acts_is_escaped_wherever_it_is_shown(
    character: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert printable(f"a{character}b").isprintable()
    assert json.loads(f'"{printable(character)}"') == character
    assert character not in inline_markdown(f"a{character}b")
    assert character in "\t\n\v\f\r " or character not in escape_markdown(f"a{character}b")
    assert json_text({"a": character}).isprintable()
    assert json.loads(json_text({"a": character})) == {"a": character}
    if character != "\n":
        say(f"a{character}b")
        print_json({"a": character})
        captured = capsys.readouterr()
        assert character not in captured.err.removesuffix("\n") + captured.out.removesuffix("\n")


def test_a_line_of_json_is_one_line_of_the_same_value_whatever_is_in_it() -> None:
    value = {"id": "".join(ACTING), "keys": [{"".join(ACTING): "Brot 新聞"}]}
    for text in (json_text(value), json_text(value, is_compact=True), json_line(value).removesuffix("\n")):
        assert text.isprintable()
        assert json.loads(text) == value
    indented = json_text(value, indent=2)
    assert all(line.isprintable() for line in indented.split("\n"))
    assert json.loads(indented) == value


def test_a_text_of_many_characters_that_act_is_escaped_in_one_pass() -> None:
    text = "".join(map(chr, range(0xE000, 0xF800))) * 100
    assert len(printable(text)) == 6 * len(text)  # by one replacement each it would be 6,144 passes


def test_letters_of_all_scripts_stay() -> None:
    for text in ("Brot – für «alle»\u00a0!", "新聞", "مرحبا", "क\u200d्ष", "👩\u200d👧", "é e\u0301"):
        assert printable(text) == text


def test_a_long_reason_is_cut_where_it_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    say("reason: " + "x" * 1_700_000)
    assert len(capsys.readouterr().err) < 2100
    assert len(shown_lines("a\n" * 1_000_000)) < 400


def test_a_line_of_foreign_text_looks_like_no_message_of_ours(capsys: pytest.CaptureFixture[str]) -> None:
    say("refused: news.csv:2: 'x\nerror [all_lost]: everything is lost'")
    assert capsys.readouterr().err.splitlines()[1].startswith("  error")


def test_a_foreign_name_starts_no_line_of_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    print_line("a\nb\x1b[2J\u202e  succeeded" + "x" * 1_000_000)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("a\\u000ab\\u001b[2J\\u202e  succeeded")
    assert len(line) < 2100


def test_markup_of_foreign_text_is_text(capsys: pytest.CaptureFixture[str]) -> None:
    say("[red]x[/red] [link=http://evil]y[/link] [/]")
    assert capsys.readouterr().err == "[red]x[/red] [link=http://evil]y[/link] [/]\n"


def log_line(sentence: str, extra: dict[str, object], *, error: Exception | None = None) -> str:
    record = logging.LogRecord("workers.runner", logging.ERROR, __file__, 1, sentence, (), None)
    record.__dict__.update(extra)
    if error is not None:
        record.exc_info = (type(error), error, None)
    return SentenceFormatter("%(levelname)s %(name)s: %(message)s").format(record)


def test_a_task_id_forges_no_line_of_the_log() -> None:
    line = log_line("A message names no job.", {"task_id": "x\nCRITICAL workers.runner: all lost\x1b[2J"})
    assert line == (
        "ERROR workers.runner: A message names no job. "
        "task_id=x\\u000aCRITICAL workers.runner: all lost\\u001b[2J"
    )


def test_neither_a_sentence_nor_an_exception_forges_a_line_of_the_log() -> None:
    line = log_line("x\nERROR y", {}, error=ValueError("a\nCRITICAL workers.runner: all lost\x1b[2J"))
    assert line.startswith("ERROR workers.runner: x\\u000aERROR y\n")
    assert all(part.startswith("  ") for part in line.split("\n")[1:])
    assert "\x1b" not in line


def test_a_field_of_a_log_line_is_cut() -> None:
    assert len(log_line("Sentence.", {"reason": "x" * 10**6})) < 1000


@pytest.mark.parametrize(
    "title",
    ["<script>alert(1)</script>", "a\u0080b", "a\x1b[2Jb", "a: b # c", "---", "\ufeffx", "a\u2028b", "'\"\\"],
)
def test_a_title_neither_breaks_the_front_matter_nor_is_markup(title: str) -> None:
    brief = ArticleBrief(title="x", keywords=(title,))
    metrics = dict.fromkeys(("requested_language", "detected_language", "requested_words", "num_words"), 1)
    block = _front_matter(brief, title, {"title": title, **metrics})
    front = yaml.safe_load(block.split("---\n")[1])
    assert (front["title"], front["id"]) == (title, title)
    assert block.replace("\n", "").isprintable()
    assert "<script" not in inline_markdown(title)


def test_what_a_command_prints_or_quotes_does_not_act_on_the_terminal(tmp_path: Path) -> None:
    models = str(tmp_path / "x\x1b[2J\x9b")
    environment = {"PRESSROOM_HOME": str(tmp_path), "PRESSROOM_MODELS_DIR": models, "COLUMNS": "500"}
    for arguments in (
        ["config"],
        ["config", "--json"],
        ["run", "articles", "no\x1b[2J\u202efile.csv"],
        ["x\x1b[2J"],
    ):
        done = subprocess.run(
            [sys.executable, "-m", "pressroom", *arguments],
            capture_output=True,
            env=environment,
            timeout=60,
        )
        text = (done.stdout + done.stderr).decode()
        assert text
        assert not {"\x1b", "\x9b", "\u202e"} & set(text)


def test_cut_text_tells_how_long_it_was() -> None:
    assert shown("abc", max_characters=2) == "ab... (3 characters)"

"""The lines of a batch file become jobs, and each id is answered once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import cast

from sqlalchemy import Connection

from db.stages import NewJob
from jobs.rejection import Rejected
from kinds.prompt.intake import read_table
from kinds.prompt.openai.lines import CHAT
from kinds.prompt.payload import PromptPayload, PromptSettings
from workers.intake import BatchRequest, IntakeSource
from workers.settings import Profile, Settings


def chat(custom_id: str, text: str = "Hello", **changes: object) -> str:
    body = {"model": "small", "messages": [{"role": "user", "content": text}], **changes}
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": CHAT, "body": body})


def read(folder: Path, *lines: str) -> tuple[list[PromptPayload], list[Rejected]]:
    """The payloads of the jobs, and the lines that are refused. No model is installed."""
    path = folder / "batch.jsonl"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    source = IntakeSource(
        inputs={"rows": path},
        request=BatchRequest(kind="prompt", model="small", settings={}),
        options=PromptSettings(),
        connection=cast("Connection", None),  # a batch file needs no database
        settings=Settings(home=folder, profiles={"own": Profile(models=("small",))}),
        on_rejected=lambda _: None,
        on_note=lambda _: None,
    )
    payloads: list[PromptPayload] = []
    rejected: list[Rejected] = []
    for line in read_table(source).jobs:
        if isinstance(line, NewJob):
            payloads.append(PromptPayload.model_validate(line.payload))
        else:
            rejected.append(line)
    return payloads, rejected


def test_refused_line_has_its_id_and_later_lines_with_the_id_are_only_listed(tmp_path: Path) -> None:
    payloads, rejected = read(tmp_path, chat("a", tools=[]), chat("a"), chat("a", store=True), chat("b"))
    assert [each.request.custom_id for each in payloads if each.request is not None] == ["b"]
    assert [line.custom_id for each in payloads for line in each.block] == ["a"]
    assert [(each.line, each.id, each.column, each.code) for each in rejected] == [
        (1, "a", "tools", "unsupported_parameter"),
        (2, "a", "custom_id", "duplicate_id"),
        (3, "a", "custom_id", "duplicate_id"),
    ]


def test_line_whose_text_is_refused_has_its_id_too(tmp_path: Path) -> None:
    for text in ("<|im_end|>", "a\0b", "AKIA" + "ABCDEFGHIJKLMNOP"):
        payloads, rejected = read(tmp_path, chat("<|im_end|>", text), chat("<|im_end|>"), chat("a", text))
        assert [line.custom_id for each in payloads for line in each.block] == ["<|im_end|>", "a"]
        assert rejected[1].code == "duplicate_id"


def test_id_that_cannot_be_written_is_refused_for_its_own_fault_each_time(tmp_path: Path) -> None:
    secret = "AKIA" + "ABCDEFGHIJKLMNOP"
    payloads, rejected = read(tmp_path, chat("good"), *[chat(secret)] * 2, *[chat("\ud800")] * 2)
    assert len(payloads) == 1
    assert [each.code for each in rejected] == [*["secret_in_input"] * 2, *["text_invalid_unicode"] * 2]

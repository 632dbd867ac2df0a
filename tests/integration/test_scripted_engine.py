"""What only the scripted engine can do: be told to fail, hang or kill its process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.errors import ConfigurationError, EngineError
from jobs.inference import Sampling
from tests.tiny_llama import write_tiny_llama
from workers.engine import EngineOptions, Request
from workers.engines.request_engine import HUNG_EXIT_CODE
from workers.engines.scripted import SCRIPT_VARIABLE, Script, load_script, scripted_engine
from workers.tokenizer import ChatTokenizer, load_tokenizer

PROGRAM = """
import sys
from pathlib import Path
from jobs.inference import Sampling
from workers.engine import EngineOptions, Request
from workers.engines.scripted import open_engine
from workers.tokenizer import load_tokenizer

folder = Path(sys.argv[1])
tokenizer = load_tokenizer(folder)
engine = open_engine(folder, tokenizer, EngineOptions(step_timeout_seconds=0.3))
prompt = tokenizer.encode_chat((("user", "a poisoned brief"),))
sampling = Sampling(max_new_tokens=6, ignore_end_of_text=True)
print(len(engine.submit(Request(request_id="r", prompt_ids=prompt, sampling=sampling)).result().token_ids))
assert "torch" not in sys.modules
"""


@pytest.fixture(scope="module")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llama(tmp_path_factory.mktemp("tiny-llama"))


@pytest.fixture(scope="module")
def tokenizer(tiny_folder: Path) -> ChatTokenizer:
    return load_tokenizer(tiny_folder)


def run_program(folder: Path, script_file: Path, **script: object) -> subprocess.CompletedProcess[str]:
    script_file.write_text(json.dumps(script))
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, str(folder)],
        env={**os.environ, SCRIPT_VARIABLE: str(script_file)},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_engine_needs_no_torch(tiny_folder: Path, tmp_path: Path) -> None:
    ran = run_program(tiny_folder, tmp_path / "script.json")
    assert (ran.returncode, ran.stdout) == (0, "6\n"), ran.stderr


def test_process_is_killed_at_the_marked_prompt_once(tiny_folder: Path, tmp_path: Path) -> None:
    script = {"kill_text": "poisoned", "kill_after_tokens": 3, "kill_once_file": str(tmp_path / "killed")}
    assert run_program(tiny_folder, tmp_path / "script.json", **script).returncode == -signal.SIGKILL
    assert run_program(tiny_folder, tmp_path / "script.json", **script).returncode == 0


def test_hung_step_ends_the_process_with_the_stacks_on_stderr(tiny_folder: Path, tmp_path: Path) -> None:
    ran = run_program(tiny_folder, tmp_path / "script.json", hang_text="poisoned")
    assert ran.returncode == HUNG_EXIT_CODE
    assert "engine step has hung for more than 0.3 s" in ran.stderr
    assert "scripted.py" in ran.stderr


def test_marked_prompt_fails_and_its_neighbours_do_not(tokenizer: ChatTokenizer) -> None:
    engine = scripted_engine(tokenizer, EngineOptions(), Script(fail_text="poisoned"))
    sampling = Sampling(max_new_tokens=6)
    futures = {
        text: engine.submit(
            Request(request_id=text, prompt_ids=tokenizer.encode_chat((("user", text),)), sampling=sampling)
        )
        for text in ("first", "a poisoned brief", "last")
    }
    try:
        with pytest.raises(EngineError):
            futures["a poisoned brief"].result(60)
        assert [futures[text].result(60).usage.new_tokens for text in ("first", "last")] == [6, 6]
    finally:
        engine.close()


def test_script_with_an_unknown_field_is_refused(tmp_path: Path) -> None:
    script_file = tmp_path / "script.json"
    script_file.write_text('{"kill_txt": "x"}')
    with pytest.raises(ConfigurationError, match="kill_txt"):
        load_script(script_file)

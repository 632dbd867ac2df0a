"""Headers and indexes of weight files, as intake reads them: sane ones pass, any other is refused."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tiny_model import TENSORS, gguf_bytes, safetensors_bytes, write_tiny_model
from workers.models.files import (
    MalformedFileError,
    read_safetensors_header,
)
from workers.models.gguf import check_gguf
from workers.models.install import add_model
from workers.models.sources import (
    FolderSource,
)

pytestmark = pytest.mark.usefixtures("untried")


@pytest.fixture
def source(tmp_path: Path) -> FolderSource:
    return FolderSource(write_tiny_model(tmp_path / "source"), licence="Apache-2.0")


@pytest.fixture
def models(tmp_path: Path) -> Path:
    return tmp_path / "models"


def hidden(models: Path) -> list[str]:
    return [path.name for path in models.iterdir() if path.name.endswith(".partial")]


def header(**tensors: object) -> bytes:
    text = json.dumps(tensors).encode()
    return struct.pack("<Q", len(text)) + text + bytes(8)


def entry(**changes: object) -> dict[str, object]:
    return {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **changes}


@pytest.mark.attack("malformed weights file")
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x02\x00\x00",
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 500) + b"{}",
        struct.pack("<Q", 4) + b"{\xff}\x00" + bytes(8),
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 200_000) + b"[" * 200_000,
        struct.pack("<Q", 16) + b'{"a": 1, "a": 2}',
        header(a=3),
        header(a=entry(dtype="F4")),
        header(a=entry(shape=[True, 2])),
        header(a=entry(shape=[-2])),
        header(a=entry(shape=[2**62, 2**62])),
        header(a=entry(data_offsets=[0])),
        header(a=entry(data_offsets=[8, 0])),
        header(a=entry(data_offsets=[0, 16], shape=[4])),
        header(a=entry(data_offsets=[4, 12])),
        header(a=entry(), b=entry()),
        header(a=entry(data_offsets=[0, 4], shape=[1])),
        safetensors_bytes(TENSORS)[:-1],
        safetensors_bytes(TENSORS) + b"\0",
    ],
)
def test_malformed_safetensors_is_refused_at_intake(source: FolderSource, models: Path, body: bytes) -> None:
    """Attack 9."""
    (source.folder / "model.safetensors").write_bytes(body)

    with pytest.raises(MalformedFileError) as caught:
        add_model("tiny", models, source)

    assert caught.value.code == "model_file_malformed"
    assert hidden(models) == []


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"\x02\x00\x00", "because it has only 3 bytes: fetch the model again"),
        (
            struct.pack("<Q", 500) + b"{}",
            "first 8 bytes are not a valid header length: fetch the model again",
        ),
        (
            header(a=entry(data_offsets=[4, 12])),
            "begins at byte 4 of the data, but byte 0 is expected; fetch the model again",
        ),
    ],
)
def test_refusal_of_a_safetensors_file_states_the_fault_and_what_to_do(
    tmp_path: Path, body: bytes, message: str
) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(body)

    with pytest.raises(MalformedFileError, match=message):
        read_safetensors_header(path)


@given(body=st.binary(max_size=200))
def test_safetensors_header_of_any_bytes_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, body: bytes
) -> None:
    path = tmp_path_factory.mktemp("any") / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(body)) + body)

    try:
        tensors = read_safetensors_header(path)
    except MalformedFileError:
        return
    assert all(tensor.begin == tensor.end for tensor in tensors)  # no data follows the header


def test_index_that_names_a_file_elsewhere_is_refused(source: FolderSource, models: Path) -> None:
    (source.folder / "model.safetensors").unlink()
    (source.folder / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"embed": "../other.safetensors"}})
    )

    with pytest.raises(MalformedFileError, match="not a safetensors file in the folder"):
        add_model("tiny", models, source)


def test_sane_gguf_header_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(gguf_bytes())

    check_gguf(path)


@pytest.mark.attack("malformed weights file")
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"GGML" + gguf_bytes()[4:],
        gguf_bytes(version=1),
        gguf_bytes(num_tensors=2**60),
        gguf_bytes(num_tensors=3),
        gguf_bytes(num_pairs=2**60),
        gguf_bytes(num_pairs=5),
        gguf_bytes(name_bytes=2**40),
        gguf_bytes()[:40],
    ],
)
def test_malformed_gguf_is_refused_before_its_conversion(tmp_path: Path, models: Path, body: bytes) -> None:
    """Attack 9."""
    (tmp_path / "gguf").mkdir()
    (tmp_path / "gguf" / "model.gguf").write_bytes(body)

    with pytest.raises(MalformedFileError):
        add_model("tiny", models, FolderSource(tmp_path / "gguf"))

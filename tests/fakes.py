"""A model without weights: an engine, a tokenizer and a manifest that keep their contracts, deterministic."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from datetime import UTC, datetime
from pathlib import Path

from jobs.errors import EngineLostError
from jobs.inference import Completion, FinishReason, TemplateArguments, Usage
from jobs.provenance import token_digest
from storage.memory import MemoryStore
from storage.store import StoreError
from workers.engine import EngineInfo, EngineProgress, Request
from workers.model_pool import LanguageModel, ModelPool
from workers.models.manifest import Manifest, Trial

MODEL = "fake"


def load_nothing(folder: Path, *, num_parameters: int) -> Trial:
    """In place of `try_model`, for tests of everything else about an installation."""
    return Trial(engines={}, versions={})


class FakeEngine:
    """Answers each request with a text that only its prompt and sampling decide; implements Engine.

    It answers at once, or, if `held`, when `let_go` is called.
    """

    def __init__(self, *, held: bool = False) -> None:
        self._held = held
        self._lock = threading.Lock()
        self._waiting: dict[str, tuple[Request, Future[Completion]]] = {}
        self.requests: list[Request] = []

    @property
    def info(self) -> EngineInfo:
        return EngineInfo(
            name="fake",
            versions=(("fake", "1"),),
            dtype="none",
            device="cpu",
            attention="none",
            num_slots=4,
            max_context_tokens=2048,
        )

    @property
    def num_waiting(self) -> int:
        """Requests that are held."""
        return len(self._waiting)

    def submit(self, request: Request) -> Future[Completion]:
        future: Future[Completion] = Future()
        with self._lock:
            self.requests.append(request)
            if self._held:
                self._waiting[request.request_id] = (request, future)
                return future
        future.set_result(completion_of(request))
        return future

    def let_go(self) -> None:
        """Answer what is held, and everything from now on."""
        with self._lock:
            self._held = False
            waiting, self._waiting = self._waiting, {}
        for request, future in waiting.values():
            future.set_result(completion_of(request))

    def cancel(self, request_id: str) -> None:
        with self._lock:
            _, future = self._waiting.pop(request_id, (None, None))
        if future is not None:
            future.cancel()

    def progress(self) -> EngineProgress:
        return EngineProgress(num_running=0, num_waiting=self.num_waiting, num_steps=0, seconds_in_step=0.0)

    def warm(self) -> None:
        pass

    def close(self) -> None:
        with self._lock:
            waiting, self._waiting = self._waiting, {}
        for _, future in waiting.values():
            future.set_exception(EngineLostError("the engine was closed"))


def completion_of(request: Request) -> Completion:
    """What the fake engine writes."""
    return Completion(
        text=f"an answer to {token_digest(request.prompt_ids)[:8]} under {request.sampling.seed}",
        token_ids=request.prompt_ids[:3],
        finish_reason=FinishReason.STOP,
        usage=Usage(len(request.prompt_ids), 2, 3),
    )


class FakeTokenizer:
    """A token for each byte; implements Tokenizer."""

    num_tokens = 256
    end_of_text_ids = frozenset({0})
    control_tokens = ("<|im_start|>",)

    def encode_chat(
        self, messages: tuple[tuple[str, str], ...], arguments: TemplateArguments = ()
    ) -> tuple[int, ...]:
        return tuple("".join(f"{role}:{content}\n" for role, content in messages).encode())

    def encode_text(self, text: str) -> tuple[int, ...]:
        return tuple(text.encode())

    def decode(self, token_ids: tuple[int, ...]) -> str:
        return bytes(token_ids).decode(errors="replace")

    def token_bytes(self, token_id: int) -> bytes:
        return bytes([token_id])


class FailingStore(MemoryStore):
    """A store that does not answer for its first calls of `put`; implements Store."""

    def __init__(self, num_failures: int) -> None:
        super().__init__()
        self._num_failures = num_failures

    def put(self, key: str, body: bytes, *, media_type: str) -> None:
        if self._num_failures:
            self._num_failures -= 1
            raise StoreError("the store did not answer")
        super().put(key, body, media_type=media_type)


def fake_models(engine: FakeEngine) -> ModelPool:
    """One warm model, on this engine."""
    manifest = Manifest(
        name=MODEL,
        source="tests",
        revision="1",
        licence=None,
        architecture="FakeForCausalLM",
        files=(),
        weights_sha256="a" * 64,
        tokenizer_sha256="b" * 64,
        chat_template_sha256="c" * 64,
        num_parameters=0,
        max_context_tokens=2048,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
    return ModelPool([LanguageModel(manifest, FakeTokenizer(), engine)])

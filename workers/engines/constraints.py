"""Constraints of texts as grammars over a model's tokens, with the library llguidance.

A constraint is compiled once; each row of a batch then has a Matcher, which knows the tokens that may come
next. This module does not need torch, so that intake can refuse a constraint before there is a job.
"""

from __future__ import annotations

import json
import re
import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future
from copy import copy
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from jobs.errors import ConfigurationError, InputError, PermanentError, PressroomError
from jobs.inference import Constraint, ConstraintForm
from workers.engine import Tokenizer
from workers.json_schema import MAX_SCHEMA_BYTES, schema_problem, served_schema

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer
    from llguidance._lib import JsonCompileOptions

MAX_COMPILE_SECONDS = 20.0
"""Maximum time to compile a constraint. The limits of size allow about one second; this limit is for whatever
they overlook."""
MAX_GRAMMARS = 64
"""Maximum number of compiled constraints that are kept."""
MAX_CHOICES = 10_000
"""Maximum number of choices. So many compile in 0.2 seconds."""
MAX_PATTERN_BYTES = 64 * 1024

_JSON_OPTIONS: JsonCompileOptions = {
    # Whitespace as Python writes it. Where whitespace is free, small models write blanks without end.
    "whitespace_flexible": False,
    "item_separator": ", ",
    "key_separator": ": ",
    # No \u escapes, so that no text contains NUL, which Postgres refuses. Other characters need no escape.
    "json_allowed_escapes": '"\\nrtbf',
    "lenient": False,
    "coerce_one_of": False,
}


class ConstraintUnsupportedError(InputError):
    """A constraint cannot be served, or is no valid schema, pattern or list of choices."""

    code = "constraint_unsupported"


class ConstraintFailedError(PermanentError):
    """A text cannot be continued under its constraint. The same request would fail again."""

    code = "constraint_failed"


_NAMES = {
    ConstraintForm.JSON_SCHEMA: "JSON schema",
    ConstraintForm.JSON_OBJECT: "constraint to a JSON object",
    ConstraintForm.REGEX: "regular expression",
    ConstraintForm.CHOICE: "list of choices",
}


def _unsupported(constraint: Constraint, reason: str) -> ConstraintUnsupportedError:
    return ConstraintUnsupportedError(f"the {_NAMES[constraint.form]} cannot be served: {reason}")


def is_installed() -> bool:
    """Return whether this machine can compile constraints; the library is part of `pressroom[engine]`."""
    return find_spec("llguidance") is not None


class Matcher:
    """The place of one text in its grammar. Used by one thread at a time."""

    def __init__(self, matcher: LLMatcher, vocabulary: LLTokenizer, tokens: Sequence[bytes]) -> None:
        self._matcher = matcher
        self._vocabulary = vocabulary
        self._tokens = tokens
        self._text = b""

    @property
    def text(self) -> str:
        """The text so far. If it ends within a character, this is U+FFFD."""
        return self._text.decode(errors="replace")

    @property
    def is_satisfied(self) -> bool:
        """Whether the text satisfies the constraint as it is."""
        return self._matcher.is_accepting()

    @property
    def is_finished(self) -> bool:
        """Whether the text satisfies the constraint, and no longer text that begins with it does."""
        return self._matcher.is_stopped() and not self._matcher.is_error()

    def fill(self, mask: NDArray[np.uint32]) -> None:
        """Set the bits of the tokens that may come next, and clear all others.

        `mask` is a contiguous row in which bit i % 32 of number i // 32 stands for token i. Safe to repeat.
        Raises ConstraintFailedError.
        """
        self._matcher.unsafe_compute_mask_ptr(mask.ctypes.data, mask.nbytes)
        if self._matcher.is_error():
            raise self._error()

    def accept(self, token_id: int) -> None:
        """Add a token to the text. Raises ConstraintFailedError."""
        if not self._matcher.consume_token(token_id):
            raise self._error()
        self._text += self._tokens[token_id]

    def accept_text(self, text: str) -> None:
        """Add a text, which need not consist of the model's tokens. Raises ConstraintFailedError."""
        if not self._matcher.consume_tokens(self._vocabulary.greedy_tokenize(text)):
            raise self._error()
        self._text += text.encode()

    def begin(self) -> Matcher:
        """Return a matcher for another text, of which there is nothing yet. Any thread may call this."""
        matcher = self._matcher.deep_copy()
        if self._text:
            matcher.reset()
        return Matcher(matcher, self._vocabulary, self._tokens)

    def _error(self) -> ConstraintFailedError:
        return ConstraintFailedError(
            f"the text cannot be continued under its constraint: {_reason(self._matcher.get_error())}"
        )


class Grammars:
    """Compiles constraints for one tokenizer, and keeps those that were used last. Any thread may call it."""

    def __init__(self, tokenizer: Tokenizer, num_tokens: int) -> None:
        """Compile nothing yet. `num_tokens` is the number of token ids for which a model computes logits."""
        self._tokenizer = tokenizer
        self._num_tokens = num_tokens
        self._lock = threading.Lock()
        self._vocabulary_lock = threading.Lock()
        self._vocabulary: tuple[LLTokenizer, Sequence[bytes]] | None = None
        self._grammars: OrderedDict[Constraint, Future[Matcher]] = OrderedDict()

    def find(self, constraint: Constraint) -> Future[Matcher]:
        """Return a matcher from which the caller begins one for each text.

        The future gets ConstraintUnsupportedError, also if the constraint takes too long to compile. Raise
        a copy of it. A constraint that was not used before is compiled in a thread of its own, so this call
        never blocks.
        """
        with self._lock:
            if constraint in self._grammars:
                self._grammars.move_to_end(constraint)
                return self._grammars[constraint]
            future = self._grammars[constraint] = Future[Matcher]()
            if len(self._grammars) > MAX_GRAMMARS:
                self._grammars.popitem(last=False)
        name = "constraint-compiler"
        threading.Thread(target=self._resolve, args=(constraint, future), name=name, daemon=True).start()
        return future

    def compile(self, constraint: Constraint) -> Matcher:
        """Return a matcher from which the caller begins one for each text; block until it is compiled.

        Raises ConstraintUnsupportedError.
        """
        future = self.find(constraint)
        error = future.exception()
        if error is not None:
            raise copy(error)  # an exception that is raised often would keep the frames of all its callers
        return future.result()

    def _resolve(self, constraint: Constraint, future: Future[Matcher]) -> None:
        # A thread in native code cannot be interrupted. It is left behind, and its answer is not used.
        inner: Future[Matcher] = Future()
        arguments = (constraint, inner)
        threading.Thread(
            target=self._compile_into, args=arguments, name="constraint-compiler", daemon=True
        ).start()
        try:
            future.set_result(inner.result(timeout=MAX_COMPILE_SECONDS))
        except TimeoutError:
            reason = f"it takes more than {MAX_COMPILE_SECONDS:g} seconds to compile; make it smaller"
            future.set_exception(_unsupported(constraint, reason))
        except BaseException as error:  # noqa: BLE001  whoever waits for the future must get it
            future.set_exception(error)

    def _compile_into(self, constraint: Constraint, future: Future[Matcher]) -> None:
        try:
            future.set_result(self._compile(constraint))
        except PressroomError as error:
            future.set_exception(error)
        except ModuleNotFoundError as error:
            missing = ConfigurationError(
                f"constraints need a library that is not installed ({error}): install the extra "
                "`pressroom[engine]`",
                code="engine_not_installed",
            )
            future.set_exception(missing)
        except Exception as error:  # noqa: BLE001  the library raises ValueError for any fault of a schema
            future.set_exception(_unsupported(constraint, _reason(str(error))))

    def _compile(self, constraint: Constraint) -> Matcher:
        from llguidance import LLMatcher, LLParserLimits

        problem = _problem(constraint)
        if problem is not None:
            raise _unsupported(constraint, problem)
        vocabulary, tokens = self._vocabulary_of_tokenizer()
        # Verbose errors contain the text, which must not appear in logs.
        limits = LLParserLimits(verbose_errors=False)
        matcher = LLMatcher(vocabulary, _grammar(constraint), log_level=0, limits=limits)
        if not matcher.is_error():
            # Some faults are only noticed when the first token is looked for.
            probe = matcher.deep_copy()
            probe.compute_bitmask()
            if probe.is_error():
                raise _unsupported(constraint, f"no text satisfies it ({_reason(probe.get_error())})")
            return Matcher(matcher, vocabulary, tokens)
        raise _unsupported(constraint, _reason(matcher.get_error()))

    def _vocabulary_of_tokenizer(self) -> tuple[LLTokenizer, Sequence[bytes]]:
        """Return the tokens in the form that the library searches, and their bytes.

        This takes half a second, once.
        """
        from llguidance import LLTokenizer, TokenizerWrapper

        with self._vocabulary_lock:
            if self._vocabulary is None:
                own = _Vocabulary(self._tokenizer, self._num_tokens)
                ends = [
                    token_id for token_id in self._tokenizer.end_of_text_ids if token_id < self._num_tokens
                ]
                tokens = TokenizerWrapper(own)
                library = LLTokenizer(tokens, n_vocab=self._num_tokens, eos_token=sorted(ends))
                self._vocabulary = library, own.tokens
            return self._vocabulary


class _Vocabulary:
    """The tokens of a model, with the attributes that llguidance.TokenizerWrapper reads."""

    def __init__(self, tokenizer: Tokenizer, num_tokens: int) -> None:
        self.eos_token_id = min(tokenizer.end_of_text_ids)
        self.bos_token_id = None
        num_known = min(num_tokens, tokenizer.num_tokens)
        self.tokens = [tokenizer.token_bytes(token_id) for token_id in range(num_known)]
        self.tokens += [b""] * (num_tokens - num_known)
        # Twice, because some decoders leave out the space with which a text begins.
        self.special_token_ids = [
            token_id
            for token_id, text in enumerate(self.tokens)
            if token_id in tokenizer.end_of_text_ids or (text and not tokenizer.decode((token_id, token_id)))
        ]
        self._encode = tokenizer.encode_text
        self._special = frozenset(self.special_token_ids)

    def __call__(self, text: str) -> list[int]:
        return [token_id for token_id in self._encode(text) if token_id not in self._special]


def _problem(constraint: Constraint) -> str | None:
    """Return why a constraint cannot be served, as far as this can be said without compiling it."""
    source = constraint.source
    num_bytes = len(source.encode())
    match constraint.form:
        case ConstraintForm.JSON_SCHEMA:
            if num_bytes > MAX_SCHEMA_BYTES:
                return f"it has more than {MAX_SCHEMA_BYTES // 1024} KB"
            return schema_problem(source)
        case ConstraintForm.REGEX:
            if not source:
                return "it is empty"
            return (
                f"it has more than {MAX_PATTERN_BYTES // 1024} KB" if num_bytes > MAX_PATTERN_BYTES else None
            )
        case ConstraintForm.CHOICE:
            return _problem_of_choices(source)
        case ConstraintForm.JSON_OBJECT:
            return None


def _problem_of_choices(source: str) -> str | None:
    try:
        choices = json.loads(source)
    except ValueError:
        choices = None
    if not isinstance(choices, list) or not all(isinstance(choice, str) for choice in choices):
        return "it is not a list of texts"
    if not choices:
        return "it is empty"
    if not all(choices):
        return "a choice is empty"
    if len(choices) > MAX_CHOICES or len(source.encode()) > MAX_SCHEMA_BYTES:
        return f"it has more than {MAX_CHOICES:,} choices or {MAX_SCHEMA_BYTES // 1024} KB"
    return None


def _grammar(constraint: Constraint) -> str:
    """Return the grammar in the library's own notation. Raises ValueError."""
    from llguidance import LLMatcher

    source = constraint.source
    match constraint.form:
        case ConstraintForm.JSON_SCHEMA:
            return LLMatcher.grammar_from_json_schema(served_schema(source), overrides=_JSON_OPTIONS)
        case ConstraintForm.JSON_OBJECT:
            return LLMatcher.grammar_from_json_schema('{"type": "object"}', overrides=_JSON_OPTIONS)
        case ConstraintForm.REGEX:
            return LLMatcher.grammar_from_regex(source)
        case ConstraintForm.CHOICE:
            return LLMatcher.grammar_from_regex("|".join(_escaped(choice) for choice in json.loads(source)))


def _escaped(text: str) -> str:
    """Return a regular expression for exactly this text.

    >>> _escaped("a+b")
    'a\\\\x{2b}b'
    """
    return re.sub(r"[^\w ]", lambda match: f"\\x{{{ord(match[0]):x}}}", text)


def _reason(message: str) -> str:
    """Return the reason in an error message of the library, which adds the state of its parser.

    >>> _reason("Unknown format: isbn\\n<non-verbose/>")
    'Unknown format: isbn'
    """
    message = message.split("<non-verbose/>")[0].split("<state>")[0].strip()
    _, mark, fault = message.rpartition("error: ")
    return " ".join((fault if mark else message).split())[:300]

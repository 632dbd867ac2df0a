"""The tokenizers of installed models, for chats and for the input of encoders, without torch or transformers.

The ids of a chat are those of transformers' `apply_chat_template(..., add_generation_prompt=True)`: the
template runs in the same kind of sandbox with the same names (transformers/utils/chat_template_utils.py), and
the text is encoded by the same library without adding special tokens.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import NoReturn

from jinja2 import Template, TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from tokenizers import Encoding, Tokenizer

from jobs.errors import ConfigurationError, InputError, PermanentError
from jobs.guards import CONTROL_TOKENS
from jobs.inference import TemplateArguments, TextPair
from jobs.templates import BoundedEnvironment, bounded, bounded_filter, charge_json, fault_of
from jobs.text.thoughts import CHANNEL_MARKS, ThoughtMarks, find_marks
from workers.engine import EncoderRow
from workers.models.classifier import CLASSIFIER, read_classifier_settings
from workers.models.files import TOKENIZER, MalformedFileError, parse_json_object, task_of
from workers.models.reading import ModelFiles
from workers.thinking import ThoughtPlan, template_settings
from workers.token_bytes import TokenBytes

CHAT_TEMPLATE = "chat_template.jinja"

ROLES = frozenset({"system", "user", "assistant"})

_OWN_VARIABLES = frozenset({"messages", "tools", "documents", "add_generation_prompt"})
"""Variables of a chat template that `ChatTokenizer` sets itself."""

_TAIL_TOKENS = 16
"""Number of tokens at the end of a prompt that are searched for a mark that opens a thought."""

_WIDE_DATE = re.compile(r"%[-_0^#+]*\d")

NO_TEMPLATE = "{{ raise_exception('the model cannot hold a conversation') }}"
"""Chat template for a model that classifies or embeds; it refuses every conversation."""


class TokenizerError(ConfigurationError):
    """A model folder's tokenizer or chat template is missing or cannot be used."""

    code = "tokenizer_unusable"


class ControlTokenError(InputError):
    """A text contains a token with which a chat turn begins or ends."""

    code = "input_control_token"


class ChatTemplateError(InputError):
    """The model's chat template refuses these messages."""

    code = "chat_template_refused"


class ChatTokenizer:
    """The tokenizer of one model (`workers.engine.Tokenizer`). Any thread may call it.

    `tokenizer_sha256` and `chat_template_sha256` are digests in lower-case hex, for provenance: of the bytes
    of tokenizer.json, and of the chat template's text in UTF-8. An encoder has no chat template, so the
    template's digest is empty, and `encode_chat` raises ChatTemplateError.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        chat_template: str,
        *,
        special_tokens: dict[str, str],
        end_of_text_ids: frozenset[int],
        tokenizer_sha256: str,
        is_thinking_requested: bool = False,
    ) -> None:
        # tokenizer.json may include the truncation and padding settings of a training run
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer = tokenizer
        self._template = _compile(chat_template or NO_TEMPLATE)
        self._special_tokens = special_tokens
        self.num_tokens = max(tokenizer.get_vocab(with_added_tokens=True).values()) + 1
        self.end_of_text_ids = end_of_text_ids
        self._token_bytes: TokenBytes | None = None
        self.control_tokens = _control_tokens(tokenizer, chat_template)
        self.tokenizer_sha256 = tokenizer_sha256
        added = (token.content for token in tokenizer.get_added_tokens_decoder().values())
        self.thought_marks = find_marks(chat_template, added)
        self._mark_ids = _mark_ids(tokenizer, self.thought_marks)
        begins = (tokenizer.token_to_id(begin) for begin, _ in self.thought_marks.pairs)
        self._thought_begin_ids = tuple(token_id for token_id in begins if token_id is not None)
        names = _variables(chat_template)
        self.template_settings = template_settings(names, chat_template, is_requested=is_thinking_requested)
        digest = hashlib.sha256(chat_template.encode()).hexdigest()
        self.chat_template_sha256 = digest if chat_template else ""

    def encode_chat(
        self, messages: tuple[tuple[str, str], ...], arguments: TemplateArguments = ()
    ) -> tuple[int, ...]:
        """Convert role and content of each turn into prompt ids, ready for the assistant's turn.

        Raises what `render_chat` raises.
        """
        text = self.render_chat(messages, arguments)
        return tuple(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def encode_text(self, text: str) -> tuple[int, ...]:
        """Convert a text without a chat template into prompt ids.

        The tokenizer adds its special tokens, such as a beginning of text, and reads those in the text as
        such. Raises InputError for text that is not valid Unicode.
        """
        _check_unicode(text)
        return tuple(self._tokenizer.encode(text, add_special_tokens=True).ids)

    def render_chat(self, messages: tuple[tuple[str, str], ...], arguments: TemplateArguments = ()) -> str:
        """Return the text of a prompt, ready for the assistant's turn.

        `arguments` are variables for the chat template, which precede those of `template_settings`. A name
        that the template does not read cannot be recognised as a mistake, because Jinja ignores it.

        Raises ControlTokenError if the content of a turn could be read as another turn, ChatTemplateError if
        the template rejects these turns (some accept no system role), and InputError for text that is not
        valid Unicode or an argument that the tokenizer sets itself.
        """
        for role, content in messages:
            if role not in ROLES:
                raise InputError(f"chat role {role!r} is unknown: use one of {', '.join(sorted(ROLES))}")
            self.check_text(content)
        for name, value in arguments:
            if name in _OWN_VARIABLES or name in self._special_tokens:
                raise InputError(
                    f"the template argument {name!r} is set by Pressroom itself: leave it out",
                    code="template_argument_reserved",
                )
            if isinstance(value, str):
                self.check_text(value)
        return self._render(messages, arguments)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Return the number of ids of each rendered prompt. The library's own threads share the work."""
        encodings = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [len(encoding) for encoding in encodings]

    def token_ends(self, text: str) -> list[int]:
        """Return the position in the text after each of its tokens, without special tokens."""
        return [end for _, end in self._tokenizer.encode(text, add_special_tokens=False).offsets]

    def check_text(self, text: str) -> None:
        """Raise ControlTokenError or InputError if the text must not occur in a chat turn."""
        _check_unicode(text)
        for token in self.control_tokens:
            if (position := text.find(token)) >= 0:
                raise ControlTokenError(
                    f"the text contains the control token {token!r} at character {position + 1}: remove it"
                )

    def decode(self, token_ids: tuple[int, ...]) -> str:
        """Return the text of the ids without special tokens; an incomplete character becomes U+FFFD."""
        return self._tokenizer.decode(list(token_ids), skip_special_tokens=True)

    def token_bytes(self, token_id: int) -> bytes:
        """Return the bytes of UTF-8 that a token stands for, which may be a part of a character.

        Those of a special token are its name. An id without a token has no bytes.
        """
        if self._token_bytes is None:
            self._token_bytes = TokenBytes(self._tokenizer)
        return self._token_bytes.of(token_id)

    def decode_thoughts(self, token_ids: tuple[int, ...]) -> str:
        """Decode as `decode` does, but keep thought marks even if they are special tokens."""
        pieces: list[str] = []
        rest: list[int] = []
        for token_id in token_ids:
            if token_id in self._mark_ids:
                pieces += [self.decode(tuple(rest)), self._mark_ids[token_id]]
                rest = []
            else:
                rest.append(token_id)
        return "".join([*pieces, self.decode(tuple(rest))])

    def plan_thoughts(self, prompt_ids: tuple[int, ...], max_tokens: int) -> ThoughtPlan | None:
        """Return the plan to separate thoughts from the answer; None if the model is not known to think."""
        if not self.thought_marks.is_own:
            return None
        is_inside = self.thought_marks.opens(self.decode_thoughts(prompt_ids[-_TAIL_TOKENS:]))
        return ThoughtPlan(
            self.thought_marks, is_inside, max_tokens, self.decode_thoughts, self._thought_begin_ids
        )

    def _render(self, messages: tuple[tuple[str, str], ...], arguments: TemplateArguments = ()) -> str:
        variables = {
            "messages": [{"role": role, "content": content} for role, content in messages],
            "tools": None,
            "documents": None,
            "add_generation_prompt": True,
            **self._special_tokens,
            **dict(self.template_settings),
            **dict(arguments),
        }
        try:
            with bounded(variables):
                return self._template.render(variables)
        except Exception as error:
            roles = ", ".join(role for role, _ in messages)
            raise ChatTemplateError(
                f"the chat template rejects the turns ({roles}): {fault_of(error)}"
            ) from error


def _check_unicode(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"character {error.start + 1} of the text is half of a surrogate pair: save the text as UTF-8",
            code="text_invalid_unicode",
        ) from error


def load_tokenizer(
    folder: Path, digests: Mapping[str, str] | None = None, *, is_thinking_requested: bool = False
) -> ChatTokenizer:
    """Read the tokenizer of an installed model; `digests` are those of its manifest.

    If the chat template has a variable for thinking, `is_thinking_requested` sets it. Raises TokenizerError,
    MalformedFileError, NotAFileError or WeightsDigestError.
    """
    files = ModelFiles(folder, digests)
    tokenizer = read_tokenizer(files)
    settings = optional_json(files, "tokenizer_config.json")
    special_tokens = _special_tokens(settings)
    is_encoder = task_of(optional_json(files, "config.json")) != "generate"
    end_token = special_tokens.get("eos_token")
    return ChatTokenizer(
        tokenizer,
        "" if is_encoder else _chat_template(files, settings),
        special_tokens=special_tokens,
        end_of_text_ids=frozenset() if is_encoder else _end_of_text_ids(files, tokenizer, end_token),
        tokenizer_sha256=files.read_digests[TOKENIZER],
        is_thinking_requested=is_thinking_requested,
    )


def read_tokenizer(files: ModelFiles) -> Tokenizer:
    """Return the library's tokenizer. Raises TokenizerError, MalformedFileError or NotAFileError."""
    path = files.folder / TOKENIZER
    if not files.has(TOKENIZER):
        raise TokenizerError(
            f"{path} is missing, and only fast tokenizers are supported; install the model again"
        )
    try:
        return Tokenizer.from_buffer(bytes(files.read(TOKENIZER)))
    except PermanentError:
        raise
    except Exception as error:  # the library raises a bare Exception for any fault that its parser finds
        raise MalformedFileError(f"{path} is not a tokenizer ({error}); install the model again") from error


def optional_json(files: ModelFiles, name: str) -> dict[str, object]:
    """Return the JSON object of a file that a model may have; empty if there is no such file."""
    return parse_json_object(files, name) if files.has(name) else {}


def _special_tokens(settings: dict[str, object]) -> dict[str, str]:
    """Return bos_token, eos_token and the like, which templates use; older files store them as objects."""
    tokens: dict[str, str] = {}
    for name, value in settings.items():
        content = value.get("content") if isinstance(value, dict) else value
        if name.endswith("_token") and isinstance(content, str):
            tokens[name] = content
    return tokens


def _chat_template(files: ModelFiles, settings: dict[str, object]) -> str:
    """Return the template's text, from its own file or from the setting in which older models keep it."""
    if files.has(CHAT_TEMPLATE):
        try:
            return files.read(CHAT_TEMPLATE).decode()
        except UnicodeDecodeError as error:
            raise TokenizerError(f"{files.folder / CHAT_TEMPLATE} is not UTF-8: {error}") from error
    template = settings.get("chat_template")
    if isinstance(template, list):  # several named templates
        named = {entry.get("name"): entry.get("template") for entry in template if isinstance(entry, dict)}
        template = named.get("default")
    if not isinstance(template, str):
        raise TokenizerError(
            f"{files.folder} has no chat template: it is a base model; use an instruct model"
        )
    return template


def _end_of_text_ids(files: ModelFiles, tokenizer: Tokenizer, eos_token: str | None) -> frozenset[int]:
    """Return the end-of-text ids that any of the model's files names.

    All of them are used: a superfluous id may end a text early, but if one is missing, a text may never end.
    """
    ids: set[int] = set()
    for name in ("generation_config.json", "config.json"):
        named = optional_json(files, name).get("eos_token_id")
        ids.update(each for each in (named if isinstance(named, list) else [named]) if isinstance(each, int))
    if eos_token is not None and (eos_id := tokenizer.token_to_id(eos_token)) is not None:
        ids.add(eos_id)
    if not ids:
        raise TokenizerError(
            f"{files.folder} names no end-of-text token: add eos_token_id to generation_config.json"
        )
    return frozenset(ids)


def _control_tokens(tokenizer: Tokenizer, chat_template: str) -> tuple[str, ...]:
    """Return special tokens, added tokens that the template writes, and turn marks of other formats."""
    own = [
        token.content
        for token in tokenizer.get_added_tokens_decoder().values()
        if token.special or token.content in chat_template
    ]
    # Some tokenizers add plain whitespace as tokens, which occurs in every text
    return tuple(dict.fromkeys(token for token in (*own, *CONTROL_TOKENS) if token.strip()))


def _environment() -> BoundedEnvironment:
    environment = BoundedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationBlock, loopcontrols]
    )
    environment.filters["tojson"] = bounded_filter(_to_json, charge_json)
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    return environment


def _compile(chat_template: str) -> Template:
    try:
        with bounded():
            return _environment().from_string(chat_template)
    except Exception as error:
        raise TokenizerError(f"the model's chat template does not compile: {fault_of(error)}") from error


def _variables(chat_template: str) -> frozenset[str]:
    """Return the variables that the template reads. The template must be known to compile."""
    with bounded():
        parsed = _environment().parse(chat_template)
    return frozenset(name.name for name in parsed.find_all(nodes.Name) if name.ctx == "load")


def _mark_ids(tokenizer: Tokenizer, marks: ThoughtMarks) -> dict[int, str]:
    """Return the ids and texts of the special tokens that are thought marks, or parts of one.

    A thought mark is a text such as `<think>`.
    """
    thoughts = (mark for pair in marks.pairs for mark in pair)
    every = (*thoughts, *marks.wrappers, *(CHANNEL_MARKS if marks.has_channels else ()))
    return {
        token_id: token.content
        for token_id, token in tokenizer.get_added_tokens_decoder().items()
        if token.special and any(token.content in mark for mark in every)
    }


class _GenerationBlock(Extension):
    """Supports `{% generation %}`, which marks the assistant's part for training; its body is kept."""

    tags = {"generation"}  # noqa: RUF012 - declared so by jinja2

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _to_json(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Serialise to JSON. Unlike jinja2's own filter, this one does not escape for HTML."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _raise_exception(message: str) -> NoReturn:
    raise TemplateError(message)


def _strftime_now(form: str) -> str:
    if _WIDE_DATE.search(form):
        raise ValueError("strftime_now does not accept a width: use %Y-%m-%d instead of %9Y")
    return datetime.now().astimezone().strftime(form)


MAX_CHARACTERS = 20_000
"""Maximum characters that are read of a text. The longest row has room for fewer; the limit bounds the work
for very long texts."""

MAX_TARGET_CHARACTERS = 200

_SENTENCE_BERT = "sentence_bert_config.json"


class RowTokenizer:
    """The tokenizer of one encoder. Any thread may call it; the library's own threads share the work."""

    def __init__(self, tokenizer: Tokenizer, *, max_tokens: int, takes_targets: bool) -> None:
        # longest_first cuts only the text while the target is the shorter of the two, and never fails
        tokenizer.enable_truncation(max_tokens, strategy="longest_first")
        tokenizer.no_padding()
        self._tokenizer = tokenizer
        self._takes_targets = takes_targets
        self.max_tokens = max_tokens
        self.num_tokens = max(tokenizer.get_vocab(with_added_tokens=True).values()) + 1

    def encode(self, pairs: Sequence[TextPair]) -> tuple[EncoderRow, ...]:
        """Return a row for each pair; long text is truncated. Raises InputError for invalid Unicode."""
        inputs = [self._input(number, pair) for number, pair in enumerate(pairs)]
        rows = map(_row, self._tokenizer.encode_batch_fast(inputs))
        return tuple(
            replace(row, is_truncated=True) if len(pair.text) > MAX_CHARACTERS else row
            for row, pair in zip(rows, pairs, strict=True)
        )

    def decode(self, row: EncoderRow) -> tuple[str, str]:
        """Return the text and the target of a row, without special tokens."""
        text = [each for each, kind in zip(row.token_ids, row.type_ids, strict=True) if not kind]
        target = [each for each, kind in zip(row.token_ids, row.type_ids, strict=True) if kind]
        decode = self._tokenizer.decode
        return decode(text, skip_special_tokens=True), decode(target, skip_special_tokens=True)

    def _input(self, number: int, pair: TextPair) -> str | tuple[str, str]:
        text, target = pair.text[:MAX_CHARACTERS], pair.target[:MAX_TARGET_CHARACTERS]
        try:
            (text + target).encode()
        except UnicodeEncodeError as error:
            raise InputError(
                f"text {number}: character {error.start + 1} is half of a surrogate pair: save the text as "
                "UTF-8",
                code="text_invalid_unicode",
            ) from error
        return (text, target) if target and self._takes_targets else text


def _row(encoding: Encoding) -> EncoderRow:
    return EncoderRow(tuple(encoding.ids), tuple(encoding.type_ids), bool(encoding.overflowing))


def load_row_tokenizer(folder: Path, digests: Mapping[str, str] | None = None) -> RowTokenizer:
    """Read the tokenizer of an installed encoder; `digests` are those of its manifest.

    Raises TokenizerError, MalformedFileError, NotAFileError or WeightsDigestError.
    """
    files = ModelFiles(folder, digests)
    tokenizer = read_tokenizer(files)
    classifier = read_classifier_settings(folder, digests) if files.has(CLASSIFIER) else None
    limits = [max_positions(files)]
    if classifier is not None:
        limits.append(classifier.max_tokens)
    elif isinstance(longest := optional_json(files, _SENTENCE_BERT).get("max_seq_length"), int):
        limits.append(longest)
    takes_targets = classifier is not None and classifier.input == "text_and_target"
    return RowTokenizer(tokenizer, max_tokens=min(limits), takes_targets=takes_targets)


def max_positions(files: ModelFiles) -> int:
    """Return the number of positions for tokens; RoBERTa uses only those after the padding token's id."""
    config = parse_json_object(files, "config.json")
    positions, padding = config.get("max_position_embeddings"), config.get("pad_token_id")
    if not isinstance(positions, int):
        raise TokenizerError(f"{files.folder / 'config.json'} does not contain max_position_embeddings")
    is_shifted = config.get("model_type") in {"roberta", "xlm-roberta", "camembert", "mpnet"}
    return positions - (padding if isinstance(padding, int) else 1) - 1 if is_shifted else positions

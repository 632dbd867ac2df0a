"""Finds the thoughts of language models in their output, and the answer without them.

These are pure functions over strings. The thought marks of a model are read from its chat template and
tokens. Tables list the marks of model families whose templates and tokens do not contain any, and marks of an
unusual form.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

_THOUGHT_NAMES = frozenset(
    {"think", "thinking", "thought", "thoughts", "reason", "reasoning", "reflection", "rationale", "analysis"}
    | {"scratchpad", "deliberation", "monologue", "inner", "cot"}
)
_ANSWER_NAMES = frozenset({"answer", "response", "solution", "final_answer", "final_response"})
_BEGIN_WORDS = frozenset({"begin", "start", "open", "prefix", "of"})
_END_WORDS = frozenset({"end", "stop", "close", "suffix"})

_MARK = re.compile(r"[<\[◁][|｜]?/?([A-Za-z][A-Za-z0-9_▁:]{1,40})[|｜]?[>\]▷]")
"""Matches everything that could be a mark: <think>, </seed:think>, [THINK], ◁/think▷, <|END_THINKING|>."""

_OTHER_FORMS = (
    ("<|channel>thought", "<channel|>"),  # Gemma 4
    ("<unused94>thought", "<unused95>"),  # MedGemma
    ("Here is my thought process:", "Here is my response:"),  # Granite 3.2, in plain words
)
"""Pairs of marks that the general pattern does not match. A pair applies to a model whose template or tokens
contain either of the two marks."""

_QUOTES = frozenset("`'\"‘’“”«»")

_MAX_INDENT = 80
"""Maximum number of spaces before a mark at the beginning of a line. Without this limit, a long line would be
read once for each mark."""

_CHANNEL, _MESSAGE, _START = "<|channel|>", "<|message|>", "<|start|>"
_CHANNEL_MARK = re.compile(r"<\|(channel|message|start|end|return|call)\|>")
"""Matches the marks of gpt-oss's Harmony format, in which <|channel|>analysis<|message|>...<|end|> precedes
<|channel|>final."""

CHANNEL_MESSAGE = _MESSAGE
"""The mark after which the text of a message begins."""

CHANNEL_MARKS = tuple(f"<|{name}|>" for name in ("channel", "message", "start", "end", "return", "call"))


@dataclass(frozen=True, slots=True)
class AnswerSpans:
    """The positions of answer and thoughts in the text that a model has generated so far."""

    spans: tuple[tuple[int, int], ...]
    """Start and end of each part of the answer."""
    is_open: bool
    """Whether the text ends inside a thought."""
    thoughts: tuple[tuple[int, int], ...] = ()
    """Start and end of each thought, without its marks."""


@dataclass(frozen=True, slots=True)
class ThoughtMarks:
    """The marks by which a model's thoughts are recognised."""

    pairs: tuple[tuple[str, str], ...]
    """Pairs of marks that begin and end a thought."""
    wrappers: tuple[str, ...] = ()
    """Marks around the answer that are not part of it."""
    has_channels: bool = False
    """Whether thoughts and answer are messages on different channels. The channel of the answer is named
    `final`."""
    is_own: bool = False
    """Whether the model's template or tokens contain these marks. If not, a text may merely quote the tag
    `<think>`. Quoted marks are therefore ignored, and so is an opening mark within a line if no closing mark
    follows."""

    def opens(self, text: str) -> bool:
        """Return whether a prompt ends with an opened thought, which the model then continues.

        >>> DEFAULT_MARKS.opens("<|assistant|><think>\\n"), DEFAULT_MARKS.opens("<think></think>")
        (True, False)
        """
        end = text.rstrip()
        if self.has_channels and end.endswith(_MESSAGE):
            header = end[end.rfind(_START) + 1 :]
            return _CHANNEL in header and f"{_CHANNEL}final" not in header
        return end.endswith(tuple(begin for begin, _ in self.pairs))

    def read(self, text: str, *, is_inside: bool = False) -> AnswerSpans:
        """Find the answer in a text. `is_inside` means that the text starts inside a thought.

        >>> DEFAULT_MARKS.read("<think>plan</think>Text").spans
        ((19, 23),)
        """
        if _CHANNEL in text or (self.has_channels and is_inside):
            return _read_channels(text, is_inside=is_inside)
        return self._read_pairs(text, is_inside=is_inside)

    def _read_pairs(self, text: str, *, is_inside: bool) -> AnswerSpans:
        spans: list[tuple[int, int]] = []
        thoughts: list[tuple[int, int]] = []
        begin = 0
        marks = self._counting_marks(text, is_inside=is_inside)
        for place, mark, is_end in marks:
            if is_end and not is_inside:
                # This thought began in the prompt, or without an opening mark.
                thoughts = sorted((*thoughts, *spans, (begin, place)))
                spans.clear()
            elif not is_end and not is_inside:
                spans.append((begin, place))
            else:
                thoughts.append((begin, place))
            is_inside = not is_end
            begin = place + len(mark)
        (thoughts if is_inside else spans).append((begin, len(text)))
        return AnswerSpans(_not_empty(spans), is_inside, _not_empty(thoughts))

    def _counting_marks(self, text: str, *, is_inside: bool) -> list[tuple[int, str, bool]]:
        """Return the position and the text of each mark, and whether it is a closing mark.

        Marks that the text merely quotes are left out.
        """
        ends = {end for _, end in self.pairs}
        marks = [(place, mark, mark in ends) for place, mark in _occurrences(text, self.pairs)]
        if self.is_own or is_inside:
            return marks
        marks = [(place, mark, is_end) for place, mark, is_end in marks if not _is_quoted(text, place, mark)]
        last_end = max((place for place, _, is_end in marks if is_end), default=-1)
        return [
            (place, mark, is_end)
            for place, mark, is_end in marks
            if is_end or place < last_end or _begins_line(text, place)
        ]

    def answer(self, text: str, *, is_inside: bool = False) -> tuple[str, bool]:
        """Return the text without its thoughts, and whether it ends inside one.

        A text without thoughts is returned unchanged.

        >>> DEFAULT_MARKS.answer("<think>plan</think>\\nText")
        ('Text', False)
        >>> DEFAULT_MARKS.answer("The tag <think> begins a thought.")
        ('The tag <think> begins a thought.', False)
        """
        reading = self.read(text, is_inside=is_inside)
        is_whole = reading.spans == ((0, len(text)),)
        if is_whole and not (self.is_own and text.strip().startswith(self.wrappers)):
            return text, False
        answer = "".join(text[begin:end] for begin, end in reading.spans).strip()
        for wrapper in self.wrappers:
            answer = answer.removeprefix(wrapper).removesuffix(wrapper).strip()
        return answer, reading.is_open

    def reasoning(self, text: str, *, is_inside: bool = False) -> str | None:
        """Return the thoughts in a text without their marks, or None if there are none.

        >>> DEFAULT_MARKS.reasoning("<think>plan</think>\\nText"), DEFAULT_MARKS.reasoning("Text")
        ('plan', None)
        """
        reading = self.read(text, is_inside=is_inside)
        thoughts = (text[begin:end].strip() for begin, end in reading.thoughts)
        return "\n\n".join(thought for thought in thoughts if thought) or None


def find_marks(template: str, tokens: Iterable[str]) -> ThoughtMarks:
    """Return the marks in the chat template and the tokenizer's added tokens, or else DEFAULT_MARKS.

    >>> find_marks("{% if enable_thinking %}<think>{% endif %}", []).pairs
    (('<think>', '</think>'),)
    """
    tokens = tuple(tokens)
    marks = dict.fromkeys(match[0] for text in (template, *tokens) for match in _MARK.finditer(text))
    thoughts = _pairs(mark for mark in marks if _name(mark) in _THOUGHT_NAMES)
    thoughts += [
        pair for pair in _OTHER_FORMS if any(mark in text for text in (template, *tokens) for mark in pair)
    ]
    has_channels = all(mark in template or mark in tokens for mark in (_CHANNEL, _MESSAGE))
    if not thoughts and not has_channels:
        return DEFAULT_MARKS
    answers = _pairs(mark for mark in marks if _name(mark) in _ANSWER_NAMES)
    wrappers = tuple(mark for pair in answers for mark in pair) + DEFAULT_MARKS.wrappers
    return ThoughtMarks(tuple(thoughts), tuple(dict.fromkeys(wrappers)), has_channels, is_own=True)


def _name(mark: str) -> str:
    """Return the name in a mark, without the parts that distinguish opening and closing marks.

    >>> _name("<|begin_of_thought|>"), _name("</seed:think>"), _name("[THINK]")
    ('thought', 'think', 'think')
    """
    match = _MARK.fullmatch(mark)
    words = match[1].lower().replace("▁", "_").rpartition(":")[2].split("_") if match else []
    return "_".join(word for word in words if word not in _BEGIN_WORDS | _END_WORDS)


def _is_end(mark: str) -> bool:
    words = re.split(r"[^a-z]+", mark.lower())
    return "/" in mark or not _END_WORDS.isdisjoint(words)


def _pairs(marks: Iterable[str]) -> list[tuple[str, str]]:
    """Pair opening with closing marks; a missing one is derived from the form of the other."""
    known = {mark: pair for pair in DEFAULT_MARKS.pairs for mark in pair}
    begins: dict[tuple[str, str], str] = {}
    ends: dict[tuple[str, str], str] = {}
    for mark in marks:
        (ends if _is_end(mark) else begins).setdefault((mark[0], _name(mark)), mark)
    pairs = []
    for key in dict.fromkeys((*begins, *ends)):
        begin, end = begins.get(key), ends.get(key)
        if (begin is None or end is None) and (usual := known.get(begin or end or "")):
            begin, end = usual
        if begin is None and end is not None:
            begin = end.replace("/", "")
        elif end is None and begin is not None:
            bracket = begin[:2] if begin[1] in "|｜" else begin[:1]
            end = f"{bracket}/{begin[len(bracket) :]}"
        if begin is not None and end is not None and begin != end:
            pairs.append((begin, end))
    return pairs


def _occurrences(text: str, pairs: tuple[tuple[str, str], ...]) -> Iterator[tuple[int, str]]:
    """Yield the position and the text of every mark, in order, ignoring case.

    If several marks begin at the same position, only the longest is yielded.
    """
    marks = {mark.lower(): mark for pair in pairs for mark in pair}
    if any(sign in text for sign in {mark[0] for mark in marks.values()}):
        pattern = "|".join(map(re.escape, sorted(marks, key=len, reverse=True)))
        for match in re.finditer(pattern, text, re.ASCII | re.IGNORECASE):
            yield match.start(), marks[match[0].lower()]


def _is_quoted(text: str, place: int, mark: str) -> bool:
    return text[place - 1 : place] in _QUOTES or text[place + len(mark) :][:1] in _QUOTES


def _begins_line(text: str, place: int) -> bool:
    before = text[max(0, place - _MAX_INDENT) : place]
    line = before.rpartition("\n")[2]
    return not line.strip() and len(line) < _MAX_INDENT


def _read_channels(text: str, *, is_inside: bool) -> AnswerSpans:
    """Find the answer in a text with channels.

    Messages on a channel other than `final` count as thoughts, and so does an unfinished header.
    """
    spans: list[tuple[int, int]] = []
    thoughts: list[tuple[int, int]] = []
    channel: str | None = "analysis" if is_inside else None
    begin: int | None = 0
    header = None
    for match in _CHANNEL_MARK.finditer(text):
        if begin is not None:
            (spans if channel in (None, "final") else thoughts).append((begin, match.start()))
        begin = None
        if match[1] == "channel":
            header, channel = match.end(), ""
        elif match[1] == "message":
            channel = None if header is None else text[header : match.start()].strip().split(" ")[0]
            begin, header = match.end(), None
        else:
            channel, header = None, None
    is_open = header is not None or (begin is not None and channel not in (None, "final"))
    if begin is not None:
        (thoughts if is_open else spans).append((begin, len(text)))
    return AnswerSpans(_not_empty(spans), is_open, _not_empty(thoughts))


def _not_empty(spans: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    return tuple(span for span in spans if span[0] < span[1])


DEFAULT_MARKS = ThoughtMarks(
    pairs=(
        ("<think>", "</think>"),  # DeepSeek R1, Qwen 3, SmolLM 3, Phi 4, GLM, Nemotron and most others
        ("<thinking>", "</thinking>"),
        ("<thought>", "</thought>"),  # EXAONE Deep
        ("<thoughts>", "</thoughts>"),
        ("<reasoning>", "</reasoning>"),
        ("<reason>", "</reason>"),
        ("<reflection>", "</reflection>"),  # Reflection
        ("<scratchpad>", "</scratchpad>"),
        ("<|think|>", "<|/think|>"),
        ("<|thought|>", "<|/thought|>"),
        ("<seed:think>", "</seed:think>"),  # Seed-OSS
        ("[THINK]", "[/THINK]"),  # Magistral
        ("◁think▷", "◁/think▷"),  # Kimi
        ("<|START_THINKING|>", "<|END_THINKING|>"),  # Command A
        ("<|begin_of_thought|>", "<|end_of_thought|>"),  # OpenThinker
        ("<|inner_prefix|>", "<|inner_suffix|>"),  # Apertus
        *_OTHER_FORMS[:2],
    ),
    wrappers=(
        "<answer>",  # Hunyuan
        "</answer>",
        "<response>",  # Granite 3.3
        "</response>",
        "<|START_RESPONSE|>",
        "<|END_RESPONSE|>",
        "<|begin_of_solution|>",
        "<|end_of_solution|>",
    ),
)
"""Marks for a model whose template and tokens contain none. The model may still have been fine-tuned to
think."""

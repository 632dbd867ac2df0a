"""The article workload of the engine benchmarks: long shared instructions with short individual briefs.

It has 48 chat prompts of 241 to 273 tokens, of which the first 220 are the same. Each asks for 16 to 128 new
tokens, drawn with a seed. The end of the text is ignored, so that every engine does the same work.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from workers.engine import Tokenizer
from workers.prefix import common_prefix_length

NUM_PROMPTS = 48
NUM_SHARED_TOKENS = 220
MIN_PROMPT_TOKENS, MAX_PROMPT_TOKENS = 241, 273
MIN_NEW_TOKENS, MAX_NEW_TOKENS = 16, 128
SEED = 20

_GUIDE = (
    "You write short articles for the magazine of a public library. Readers are curious adults without "
    "special training. Begin with a concrete scene or a surprising fact, never with a definition. Say why "
    "the subject matters today, explain how it works in plain words, and give one example that a reader "
    "could see in their own town. Use short paragraphs of two or three sentences. Prefer verbs to nouns and "
    "everyday words to technical ones; where a technical word is needed, explain it the first time. Do not "
    "invent numbers, names, dates or quotations. Do not address the reader as a customer, do not praise "
    "products, and do not end with a summary of what was said. Mention one open question that experts still "
    "discuss. Write in the present tense where possible. Use British spelling, no headings, no lists, no "
    "emphasis and no exclamation marks. If the brief names keywords, use each of them once, where it fits "
    "naturally. Keep to the length that the brief asks for, and finish the last sentence. Take care over "
    "the first line: it decides whether the article is read at all by the people whom we would like to reach."
)
_TOPICS = (
    "tides", "bread", "owls", "glass", "maps", "bridges", "salt", "bees", "trams", "clocks", "paper", "rain",
    "moss", "kites", "canals", "soap", "bells", "ferns", "lamps", "wool", "harbours", "windmills", "snow",
    "compasses",
)  # fmt: skip
_WORDS = (
    "history", "repair", "children", "night", "winter", "market", "noise", "colour", "school", "garden",
    "travel", "weather", "craft", "museum", "river", "energy", "health", "cities", "farming", "light",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class WorkItem:
    """A text to generate greedily, to exactly this length."""

    prompt_ids: tuple[int, ...]
    max_new_tokens: int


def article_workload(
    tokenizer: Tokenizer, num_prompts: int = NUM_PROMPTS, seed: int = SEED
) -> tuple[WorkItem, ...]:
    """Return the workload's items, which depend only on the tokenizer and the arguments.

    A prompt is the output of the chat template. The end of the guide is cut out, so that exactly 220 tokens
    are shared. The length of a prompt is random, and its brief gets as many keywords as the length requires.
    """
    draw = random.Random(seed)
    shared = _encode(tokenizer, "")
    items = []
    for index in range(num_prompts):
        length = draw.randint(MIN_PROMPT_TOKENS, MAX_PROMPT_TOKENS)
        own = _own_tokens(
            tokenizer, shared, length - NUM_SHARED_TOKENS, f"{_TOPICS[index % len(_TOPICS)]}", draw
        )
        items.append(WorkItem(shared[:NUM_SHARED_TOKENS] + own, draw.randint(MIN_NEW_TOKENS, MAX_NEW_TOKENS)))
    return tuple(items)


def _own_tokens(
    tokenizer: Tokenizer, shared: tuple[int, ...], count: int, topic: str, draw: random.Random
) -> tuple[int, ...]:
    """Return the last `count` tokens of a prompt whose brief is at least that long; none is shared."""
    brief = f"An article about {topic}, {draw.randint(80, 400)} words. Keywords:"
    while True:
        brief += f" {draw.choice(_WORDS)},"
        tokens = _encode(tokenizer, brief)
        own = tokens[common_prefix_length(shared, tokens) :]
        if len(own) >= count:
            return own[-count:]


def _encode(tokenizer: Tokenizer, brief: str) -> tuple[int, ...]:
    return tokenizer.encode_chat((("system", _GUIDE), ("user", brief)))

"""How much a text repeats itself."""

from __future__ import annotations

from collections.abc import Sequence

MAX_REPETITION = 0.1
"""Bound of seq_rep_n with n = 4 for a text to count as not repetitive. Read off the example texts:
under it no loop was noticed, above it a sentence or a list stood twice (docs/experiments.md)."""


def seq_rep_n(tokens: Sequence[str], n: int = 4) -> float:
    """Share of n-grams that occurred before in the same text; 0 for a text shorter than n.

    seq-rep-n of Welleck et al. 2020, "Neural Text Generation with Unlikelihood Training",
    arXiv:1908.04319, section 6.1: 1 - |unique n-grams| / |n-grams|. Over words here, so that it does not
    depend on a tokenizer.

    >>> seq_rep_n("a b c d e".split())
    0.0
    >>> seq_rep_n("a b a b a b".split(), n=2)
    0.6
    """
    num_ngrams = len(tokens) - n + 1
    if num_ngrams < 1:
        return 0.0
    unique = {tuple(tokens[start : start + n]) for start in range(num_ngrams)}
    return 1.0 - len(unique) / num_ngrams

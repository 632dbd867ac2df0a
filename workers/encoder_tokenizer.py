"""Texts and pairs of texts -> the rows of an encoder, in bulk, with neither torch nor transformers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tokenizers import Encoding, Tokenizer

from jobs.errors import InputError
from jobs.inference import TextPair
from workers.engine import EncoderRow
from workers.models.classifier import CLASSIFIER, read_classifier_settings
from workers.models.files import parse_json_object
from workers.models.reading import ModelFiles
from workers.tokenizer import TokenizerError, optional_json, read_tokenizer

MAX_CHARACTERS = 20_000
"""Maximum characters of a text that are read: more than the longest row takes, which bounds the work for long
texts."""

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
        return tuple(map(_row, self._tokenizer.encode_batch_fast(inputs)))

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
    return EncoderRow(tuple(encoding.ids), tuple(encoding.type_ids))


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
    """Return the number of positions for tokens; RoBERTa's begin after the padding token's id."""
    config = parse_json_object(files, "config.json")
    positions, padding = config.get("max_position_embeddings"), config.get("pad_token_id")
    if not isinstance(positions, int):
        raise TokenizerError(f"{files.folder / 'config.json'} does not contain max_position_embeddings")
    is_shifted = config.get("model_type") in {"roberta", "xlm-roberta", "camembert", "mpnet"}
    return positions - (padding if isinstance(padding, int) else 1) - 1 if is_shifted else positions

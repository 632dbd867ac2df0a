"""A tokenizer.json for models of the BERT family that were published with only a list of words."""

from __future__ import annotations

from pathlib import Path

from tokenizers import BertWordPieceTokenizer

from workers.models.files import MalformedFileError, read_json_object

TOKENIZER = "tokenizer.json"
VOCABULARY = "vocab.txt"

_WORDPIECE_MODELS = frozenset({"bert", "distilbert", "electra", "mobilebert"})
"""Values of `model_type` in config.json whose vocab.txt is read like BERT's."""

_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def settle_tokenizer(folder: Path) -> None:
    """Write the tokenizer.json that a model's vocab.txt and tokenizer_config.json imply, if it has none.

    The defaults are those of transformers' BertTokenizer. Raises MalformedFileError.
    """
    vocabulary, config = folder / VOCABULARY, read_json_object(folder / "config.json")
    if (folder / TOKENIZER).is_file() or not vocabulary.is_file():
        return
    if config.get("model_type") not in _WORDPIECE_MODELS:
        return
    words = set(vocabulary.read_text(encoding="utf-8", errors="replace").split())
    if missing := [token for token in _SPECIAL if token not in words]:
        raise MalformedFileError(
            f"{vocabulary} has no {', '.join(missing)}: put the model's own tokenizer.json beside it"
        )
    path = folder / "tokenizer_config.json"
    settings = read_json_object(path) if path.is_file() else {}
    strips = settings.get("strip_accents")
    try:
        tokenizer = BertWordPieceTokenizer(
            str(vocabulary),
            lowercase=settings.get("do_lower_case") is not False,
            handle_chinese_chars=settings.get("tokenize_chinese_chars") is not False,
            strip_accents=strips if isinstance(strips, bool) else None,
        )
    except Exception as error:  # the library raises Exception itself
        raise MalformedFileError(f"{vocabulary}: {error}; fetch the model again") from error
    tokenizer.save(str(folder / TOKENIZER))

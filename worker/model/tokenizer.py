"""A checkpoint's tokenizer, without torch: `check` loads it before torch is imported."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tokenizers import Tokenizer

from worker.errors import Refused

if TYPE_CHECKING:
    from worker.model.checkpoint import Checkpoint


def load_tokenizer(checkpoint: Checkpoint) -> Tokenizer:
    """Loads the tokenizer, with the worker's truncation and without the padding that it may have.

    Raises:
        Refused: The file cannot be read, or has more tokens than the model.
    """
    try:
        tokenizer = Tokenizer.from_file(str(checkpoint.path / "tokenizer.json"))
    except Exception as error:  # the Rust side raises plain Exception
        raise Refused(f"model.checkpoint: tokenizer.json cannot be read: {error}") from error
    tokenizer.no_padding()
    tokenizer.enable_truncation(checkpoint.max_length)
    if tokenizer.get_vocab_size() > checkpoint.vocabulary:
        raise Refused(
            f"model.checkpoint: the tokenizer of {checkpoint.path} has "
            f"{tokenizer.get_vocab_size()} tokens, the model only {checkpoint.vocabulary}"
        )
    return tokenizer

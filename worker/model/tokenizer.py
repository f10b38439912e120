"""A checkpoint's tokenizer, without torch: `check` reads it before torch is imported."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tokenizers import Tokenizer

from worker.errors import Refused

if TYPE_CHECKING:
    from worker.model.checkpoint import Checkpoint


def load_tokenizer(checkpoint: Checkpoint) -> Tokenizer:
    """A private copy: a checkpoint's own may pad everything to a fixed length.

    Raises:
        Refused: The file cannot be read, or has tokens that the model lacks.
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
            f"{tokenizer.get_vocab_size()} tokens, the model {checkpoint.vocabulary}"
        )
    return tokenizer

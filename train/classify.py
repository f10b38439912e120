"""A checkpoint as `evaluate` and `predict` use it: texts to logits to scores."""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from tokenizers import Encoding, Tokenizer
from transformers import AutoModelForSequenceClassification, logging

from train import abstain, calibrate, lengths, manifest, padding
from train import tokenizer as tokenizers_of
from train.errors import Refused
from train.given.directory import trouble
from train.given.ends import ends_apart
from train.given.library import first_line, passed_over, wrapped
from train.machine import Machine
from train.padding import Side
from train.printer import counted

Floats = NDArray[np.float64]

TOKEN_BUDGET = {"cpu": 2048, "cuda": 32768}
"""Tokens, padding included, in one call of the model, by device. On a CPU 1,024 to 2,048 are
fastest: beyond, its cache is full, and twice as many are slower. A GPU needs more work at a time to
be busy."""

PORTION_TEXTS, PORTION_CHARACTERS = 16_384, 4_194_304
"""Most of what one call of the tokenizer takes. Tokens take 45 bytes for each character (measured
with MiniLM's tokenizer): 190 MB at most. Twice as much takes twice the memory and is no faster."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Classifier:
    """A loaded checkpoint."""

    labels: tuple[str, ...]
    """In the order of the columns of the logits."""
    facts: manifest.Manifest
    max_length: int
    """Most tokens of a text, special tokens included; the rest is truncated."""
    model: Any
    tokenizer: Tokenizer
    device: str
    """`cpu` or `cuda`."""
    pad_id: int
    takes_types: bool
    """Whether the model gets token types."""
    side: Side = "right"
    """Where rows are padded."""

    def logits(self, texts: Sequence[str]) -> Floats:
        """Logits before the temperature: float64, shape (texts, labels), in the order of the texts.

        Texts of similar length share a batch, so that little of it is padding. Texts are tokenized
        in portions: their tokens take some 45 times as much memory as the texts.

        Raises:
            Refused: A logit is not finite.
        """
        found = np.empty((len(texts), len(self.labels)), dtype=np.float64)
        for portion in portions(texts):
            encodings = self.tokenizer.encode_batch_fast(list(texts[portion]))
            lengths_of = [len(encoding.ids) for encoding in encodings]
            part = found[portion]
            for rows in batches(lengths_of, TOKEN_BUDGET[self.device]):
                part[rows] = self._run([encodings[row] for row in rows], self.side)
        self._refuse_infinite(found)
        return found

    def logits_of_batch(self, texts: Sequence[str], side: Side) -> Floats:
        """As `logits`, of texts that are one batch, padded on a side."""
        return self._run(self.tokenizer.encode_batch_fast(list(texts)), side)

    def scores(self, texts: Sequence[str]) -> Floats:
        """The scores that the worker would publish: float64, shape (texts, labels)."""
        return calibrate.probabilities(self.logits(texts), self.facts.temperature)

    def abstained(self, logits: Floats) -> abstain.Abstained | None:
        """Which texts the model abstains on; None where the checkpoint has no thresholds."""
        entry = self.facts.abstain
        if entry is None:
            return None
        thresholds = abstain.Thresholds(score=entry.score, energy=entry.energy)
        signals = abstain.Signals.of(logits, temperature=self.facts.temperature)
        return abstain.apply(signals, thresholds)

    def _refuse_infinite(self, logits: Floats) -> None:
        wrong = np.flatnonzero(~np.isfinite(logits).all(axis=1))
        if len(wrong):
            exact = self.model.dtype == torch.float32
            raise Refused(
                f"the logits of {counted(len(wrong), 'text')} of {len(logits):,} are not finite"
                f" (text {wrong[0] + 1}, for one): the weights are damaged"
                f"{'' if exact else ', or need --precision float32'}"
            )

    @torch.inference_mode()
    def _run(self, encodings: Sequence[Encoding], side: Side) -> Floats:
        width = max(len(encoding.ids) for encoding in encodings)
        ids = torch.full((len(encodings), width), self.pad_id, dtype=torch.long)
        inputs = {"input_ids": ids, "attention_mask": torch.zeros_like(ids)}
        if self.takes_types:
            inputs["token_type_ids"] = torch.zeros_like(ids)
        for i, encoding in enumerate(encodings):
            length = len(encoding.ids)
            place = slice(width - length, width) if side == "left" else slice(length)
            ids[i, place] = torch.tensor(encoding.ids)
            inputs["attention_mask"][i, place] = 1
            if self.takes_types:
                inputs["token_type_ids"][i, place] = torch.tensor(encoding.type_ids)
        logits = self.model(**{name: one.to(self.device) for name, one in inputs.items()}).logits
        found: Floats = logits.double().cpu().numpy()
        return found


def portions(texts: Sequence[str]) -> Iterator[slice]:
    """The texts in their order, as many at a time as are tokenized in one call.

    Each has at most `PORTION_TEXTS` and `PORTION_CHARACTERS`, or one text that is longer.
    """
    begin = characters = 0
    for at, text in enumerate(texts):
        characters += len(text)
        if at > begin and (at - begin == PORTION_TEXTS or characters > PORTION_CHARACTERS):
            yield slice(begin, at)
            begin, characters = at, len(text)
    if texts:
        yield slice(begin, len(texts))


def batches(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Row numbers in batches, shortest rows first.

    Args:
        lengths: Tokens of each row.
        budget: Most tokens of a batch, padding included. A longer row is a batch by itself.
    """
    batch: list[int] = []
    for row in sorted(range(len(lengths)), key=lambda row: lengths[row]):
        # Sorted, so the newest row is the widest.
        if batch and lengths[row] * (len(batch) + 1) > budget:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def load(checkpoint: Path, *, on: Machine) -> Classifier:
    """Loads a checkpoint: only safetensors, and never code of its own.

    Args:
        checkpoint: Its directory.
        on: The device and the precision of the weights.

    Raises:
        Refused: It is missing, damaged, or no single-label classifier.
    """
    if wrong := trouble(checkpoint):
        raise Refused(f"checkpoint: {wrong}")
    if not (checkpoint / "config.json").is_file():
        raise Refused(f"checkpoint {checkpoint}: there is no config.json in it")
    if not list(checkpoint.glob("*.safetensors")):
        raise Refused(f"checkpoint {checkpoint}: there are no weights in it (*.safetensors)")
    facts = manifest.read(checkpoint)
    tokenizer = tokenizers_of.read(checkpoint)
    model = _loaded(checkpoint, on)
    labels = _labels(checkpoint, model.config, facts)
    if model.config.pad_token_id is None:
        model.config.pad_token_id = tokenizers_of.padding(checkpoint, tokenizer)
    if model.config.pad_token_id is None:
        raise Refused(
            f"checkpoint {checkpoint}: config.json has no pad_token_id and the tokenizer no padding"
            " token, so that texts of different lengths cannot share a batch: set pad_token_id in"
            " config.json to the id that its training padded with"
        )
    try:
        max_length = lengths.of_checkpoint(
            checkpoint, model.config.to_dict(), asked=facts.max_length
        )
    except Refused as refusal:
        raise Refused(f"checkpoint {checkpoint}: {refusal}") from refusal
    own = (tokenizer.truncation or {}).get("direction", "right")
    cut = tokenizers_of.side(checkpoint, "truncation_side", default=own)
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_length, direction=cut)
    classifier = Classifier(
        labels=labels,
        facts=facts,
        max_length=max_length,
        model=ends_apart(model).to(on.device).eval(),
        tokenizer=tokenizer,
        device=on.device,
        pad_id=model.config.pad_token_id,
        takes_types=tokenizers_of.takes_types(checkpoint, model),
    )
    try:
        side = padding.choose_side(
            classifier.logits_of_batch,
            asked=tokenizers_of.side(checkpoint, "padding_side"),
            precision=on.precision,
        )
    except Refused as refusal:
        raise Refused(f"checkpoint {checkpoint}: {refusal}") from refusal
    return dataclasses.replace(classifier, side=side)


def _loaded(checkpoint: Path, on: Machine) -> Any:
    _require_own_names(checkpoint)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        model, info = AutoModelForSequenceClassification.from_pretrained(
            str(checkpoint),
            trust_remote_code=False,
            use_safetensors=True,
            local_files_only=True,
            dtype=getattr(torch, on.precision),
            output_loading_info=True,
        )
    except SafetensorError as error:
        raise Refused(f"checkpoint {checkpoint}: the weights are damaged") from error
    except Exception as error:
        raise Refused(f"checkpoint {checkpoint}: {first_line(error)}") from error
    if info["missing_keys"]:
        raise Refused(
            f"checkpoint {checkpoint}: the weights lack {min(info['missing_keys'])}: if it is a"
            " base model, fine-tune it first"
        )
    if lost := passed_over(info["unexpected_keys"], model.base_model_prefix):
        raise Refused(
            f"checkpoint {checkpoint}: transformers has no place for {lost}, and would compute"
            " something else: the configuration or the library's version is not the one that it"
            " was trained with"
        )
    return model


def _require_own_names(checkpoint: Path) -> None:
    for file in checkpoint.glob("model*.safetensors"):
        with contextlib.suppress(SafetensorError, OSError), safe_open(file, "pt") as header:
            if wrong := wrapped(header.keys()):
                raise Refused(f"checkpoint {checkpoint}: {wrong}")


def _labels(checkpoint: Path, config: Any, facts: manifest.Manifest) -> tuple[str, ...]:
    kind = config.problem_type
    if kind not in (None, "single_label_classification") or config.num_labels < 2:  # noqa: PLR2004
        what = kind or "regression (one label)"
        raise Refused(f"checkpoint {checkpoint}: is for {what}; one label of several is needed")
    if set(config.id2label) != set(range(config.num_labels)):
        raise Refused(f"checkpoint {checkpoint}: id2label does not name each of its labels")
    labels = tuple(str(config.id2label[i]) for i in range(config.num_labels))
    if len(set(labels)) < len(labels):
        raise Refused(f"checkpoint {checkpoint}: id2label names a label twice")
    if facts.labels and facts.labels != labels:
        raise Refused(f"checkpoint {checkpoint}: manifest.json and config.json differ in labels")
    return labels

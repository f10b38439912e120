"""What teachers say of the texts that are trained on: distillation (Hinton et al., 2015).

A teacher is a checkpoint, mostly a larger one, that knows the same labels. Its logits are computed
once, before the training.
"""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from train import classify
from train.calibrate import Floats
from train.dataset import Corpus
from train.errors import Refused
from train.given.directory import trouble
from train.labels import listed
from train.machine import Machine
from train.manifest import version
from train.printer import Printer, counted

ASKED = ("train", "unlabelled", "mixed")
"""The texts that teachers are asked about. Those of `--augment` have labels that a teacher trained
on the dataset alone does not know as well, and outliers have none."""


def directories(teachers: str) -> tuple[Path, ...]:
    """The directories that `--teacher` names."""
    return tuple(Path(name.strip()).expanduser() for name in teachers.split(",") if name.strip())


def refuse_missing(teachers: str) -> None:
    """Checks, before anything is read, that the teachers are there.

    Raises:
        Refused: One is not, or is no checkpoint.
    """
    for path in directories(teachers):
        if wrong := trouble(path):
            raise Refused(f"--teacher {path}: {wrong}")
        for name in ("config.json", "tokenizer.json"):
            if not (path / name).is_file():
                raise Refused(f"--teacher {path}: there is no {name} in it")


def fingerprint(teachers: str) -> str:
    """The versions of the teachers: a run that resumes has the same ones."""
    return "".join(f" {version(path)}" for path in directories(teachers))


def logits_of_rows(
    corpus: Corpus, teachers: str, *, on: Machine, folder: Path, printer: Printer
) -> Floats | None:
    """The mean logits of the teachers for each row that is trained on.

    Args:
        corpus: The dataset, and what was added.
        teachers: As the user wrote them.
        on: The device; teachers run in float32.
        folder: Where the logits are kept: a run that resumes reads them.
        printer: Prints what is computed.

    Returns:
        Float64, shape (rows, labels), in the order of `added.training_rows`; NaN in a row that no
        teacher is asked about. None without a teacher.

    Raises:
        Refused: A teacher cannot be loaded, or has other labels.
    """
    paths = directories(teachers)
    if not paths:
        return None
    splits = {"train": corpus.splits["train"], **corpus.added}
    texts = [text for name in ASKED if name in splits for text in splits[name].texts]
    found = np.mean(
        [
            _kept(path, texts, labels=corpus.labels, on=on, folder=folder, printer=printer)
            for path in paths
        ],
        axis=0,
    )
    rows = np.full((sum(map(len, splits.values())), len(corpus.labels)), np.nan)
    begin = given = 0
    for name, split in splits.items():
        if name in ASKED:
            rows[begin : begin + len(split)] = found[given : given + len(split)]
            given += len(split)
        begin += len(split)
    return rows


def _kept(
    path: Path,
    texts: Sequence[str],
    *,
    labels: Sequence[str],
    on: Machine,
    folder: Path,
    printer: Printer,
) -> Floats:
    """A teacher's logits, from the folder where they are in it, in the order of the labels."""
    digest = hashlib.sha256(version(path).encode())
    for text in (*labels, *texts):
        digest.update(f"{len(text)} {text}".encode())
    file = folder / f"teacher-{digest.hexdigest()[:16]}.npy"
    if file.is_file():
        try:
            found: Floats = np.load(file, allow_pickle=False)
        except (ValueError, OSError, EOFError):
            file.unlink(missing_ok=True)  # damaged, or empty
        else:
            return found
    exact = Machine(device=on.device, name=on.name, precision="float32")
    teacher = classify.load(path, on=exact)
    if set(teacher.labels) != set(labels):
        raise Refused(
            f"--teacher {path}: has the labels {listed(teacher.labels)}; the dataset has"
            f" {listed(labels)}"
        )
    with printer.busy(f"asking the teacher {path} about {counted(len(texts), 'text')}"):
        found = teacher.logits(texts)[:, [teacher.labels.index(label) for label in labels]]
    folder.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(".partial")
    with part.open("wb") as written:
        np.save(written, found)
        written.flush()
        os.fsync(written.fileno())
    part.replace(file)
    return found

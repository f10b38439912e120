"""Writes a checkpoint whole or not at all."""

import contextlib
import errno
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

from train.encoder import Encoder
from train.errors import Refused

# Weights, two epoch checkpoints and the final copy: what a run holds at most, in weights.
COPIES_HELD = 4


def refuse_occupied(output: Path) -> None:
    """Before anything is computed.

    Raises:
        Refused: `output` is a file or has something in it, or cannot be made.
    """
    if output.is_symlink() and not output.exists():
        raise Refused(f"--output {output}: a link to nothing")
    try:
        if output.exists() and not output.is_dir():
            raise Refused(f"--output {output}: is a file")
        if output.is_dir() and any(output.iterdir()):
            raise Refused(f"--output {output}: the directory is not empty")
        parent = output.resolve().parent
        parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Refused(f"--output {output}: {error.strerror}") from error
    if not os.access(parent, os.W_OK | os.X_OK):
        raise Refused(f"--output {output}: no permission to write in {parent}")


def refuse_full(output: Path, weights_bytes: int) -> None:
    """Before an hour of training ends on a full disk.

    Raises:
        Refused: The file system of `output` has no room for a run with such weights.
    """
    needed = weights_bytes * COPIES_HELD
    free = shutil.disk_usage(output.resolve().parent).free
    if free < needed:
        raise Refused(
            f"--output {output}: no space: about {needed >> 20} MiB needed, {free >> 20} MiB free"
        )


@contextlib.contextmanager
def staged(output: Path) -> Iterator[Path]:
    """A temporary sibling that becomes `output` in one rename when the block ends well.

    The block gets a folder with an empty `checkpoint` in it; whatever else it puts there (epoch
    checkpoints) goes away, and all of it does when the block fails or is interrupted.

    Raises:
        Refused: The disk is full, or `output` was taken by another in the meantime.
    """
    target = output.resolve()
    try:
        with _own_folder(target) as folder:
            # One level down, since mkdtemp's own folder is private and a checkpoint is not.
            checkpoint = folder / "checkpoint"
            checkpoint.mkdir()
            yield folder
            _share(checkpoint)
            _sync_tree(checkpoint)
            # Onto an empty directory this works and onto any other it fails, so a checkpoint
            # written meanwhile by another run is never overwritten.
            checkpoint.replace(target)
            _sync(target.parent)
    except OSError as error:
        raise Refused(_says(error, output)) from error


def save_model(encoder: Encoder, checkpoint: Path) -> None:
    """Weights, configuration and tokenizer, in the plain Hugging Face format.

    Raises:
        OSError: The disk is full.
    """
    try:
        # One file whatever the size: its digest is the version.
        encoder.model.save_pretrained(checkpoint, max_shard_size="1TB")
        encoder.tokenizer.save_pretrained(checkpoint)
        backend = encoder.tokenizer.backend_tokenizer
        # Each call of the tokenizer since has left its own options on the backend.
        backend.no_padding()
        backend.enable_truncation(encoder.max_length)
        backend.save(str(checkpoint / "tokenizer.json"))
    except Exception as error:
        if is_full(error):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(checkpoint)) from error
        raise


def is_full(error: BaseException) -> bool:
    """Whether a failure is the disk's: safetensors and torch raise types of their own for it."""
    if isinstance(error, OSError):
        return error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
    said = str(error)
    return "os error 28" in said or "No space left" in said or "PytorchStreamWriter" in said


@contextlib.contextmanager
def _own_folder(target: Path) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.partial-", dir=target.parent))
    try:
        yield folder
    finally:
        with _uninterrupted():
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """A second Ctrl-C would stop the clearing up half-way, and leave what the first one left."""
    try:
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    except ValueError:  # not the main thread, which alone gets the signal
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _says(error: OSError, output: Path) -> str:
    if is_full(error):
        return f"--output {output}: no space left on the device; nothing was written"
    if error.errno in {errno.ENOTEMPTY, errno.EEXIST}:
        return f"--output {output}: another run wrote it in the meantime"
    return f"--output {output}: {error.strerror or error}"


def _share(folder: Path) -> None:
    # safetensors makes its file private, and the worker's container runs as another user.
    mask = os.umask(0)
    os.umask(mask)
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(0o666 & ~mask)


def _sync_tree(folder: Path) -> None:
    for path in (*folder.rglob("*"), folder):
        _sync(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

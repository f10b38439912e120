"""The output directory: the checkpoint is saved whole or not at all."""

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from train import manifest, normalizers
from train.encoder import Encoder
from train.errors import Refused
from train.interrupts import held

COPIES_HELD = 4
"""Copies of the weights for which the disk must have room: two checkpoints of epochs that are kept,
one that is being written, and the final one."""


def refuse_occupied(output: Path) -> None:
    """Checks, before anything is computed, that a checkpoint can be saved here.

    Raises:
        Refused: `output` is a file or is not empty, or the directory cannot be made.
    """
    if output.is_symlink() and not output.exists():
        raise Refused(f"--output {output}: is a link whose target does not exist")
    try:
        if output.exists() and not output.is_dir():
            raise Refused(f"--output {output}: is a file")
        if output.is_dir() and any(output.iterdir()):
            raise Refused(f"--output {output}: the directory is not empty{_saved(output)}")
        parent = output.resolve().parent
        parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Refused(f"--output {output}: {error.strerror}") from error
    if not os.access(parent, os.W_OK | os.X_OK):
        raise Refused(f"--output {output}: no permission to write in {parent}")


def _saved(output: Path) -> str:
    # A Job starts a run again that ended with 1: what is read last should say why the first did.
    with contextlib.suppress(Refused):
        facts = manifest.read(output)
        if facts.calibrated is False and facts.settings.get("temperature") is None:
            return ": it has a checkpoint whose scores are not calibrated, as its model card says"
    return ""


def refuse_full(output: Path, weights_bytes: int) -> None:
    """Checks, before an hour of training, that the disk will not be full after it.

    Args:
        output: The output directory.
        weights_bytes: Size of the model's weights.

    Raises:
        Refused: The file system of `output` has no room for `COPIES_HELD` copies of them.
    """
    needed = weights_bytes * COPIES_HELD
    free = shutil.disk_usage(output.resolve().parent).free
    if free < needed:
        raise Refused(
            f"--output {output}: no space: about {needed >> 20} MiB needed, {free >> 20} MiB free"
        )


@contextlib.contextmanager
def staged(output: Path) -> Iterator[Path]:
    """A temporary directory beside `output`; its `checkpoint` becomes `output` at the end.

    The block gets the temporary directory with an empty `checkpoint` in it. Where the block ends
    well, `checkpoint` is renamed to `output`, in one step, and the rest (checkpoints of epochs) is
    deleted. Where it fails or is interrupted, all of it is deleted.

    Raises:
        Refused: The disk is full, or another run wrote to `output` in the meantime.
    """
    target = output.resolve()
    try:
        with _own_folder(target) as folder:
            # One level down: mkdtemp's own directory is private, and a checkpoint is not.
            checkpoint = folder / "checkpoint"
            checkpoint.mkdir()
            yield folder
            _share(checkpoint)
            _sync_tree(checkpoint)
            # This works onto an empty directory and fails onto any other: a checkpoint that
            # another run wrote meanwhile is never overwritten.
            checkpoint.replace(target)
            _sync(target.parent)
    except OSError as error:
        raise Refused(_says(error, output)) from error


def save_model(encoder: Encoder, checkpoint: Path) -> None:
    """Saves weights, configuration and tokenizer in the plain Hugging Face format.

    Args:
        encoder: The fine-tuned model.
        checkpoint: The directory to save in.

    Raises:
        OSError: The disk is full.
    """
    try:
        # One file whatever its size: the version is its digest.
        encoder.model.save_pretrained(checkpoint, max_shard_size="1TB")
        encoder.tokenizer.save_pretrained(checkpoint)
        backend = encoder.tokenizer.backend_tokenizer
        # Every call of the tokenizer leaves its padding and truncation on the backend.
        backend.no_padding()
        backend.enable_truncation(encoder.max_length, direction=encoder.tokenizer.truncation_side)
        backend.save(str(checkpoint / "tokenizer.json"))
        normalizers.keep(checkpoint, encoder.tokenizer, encoder.normalizer)
    except Exception as error:
        if is_full(error):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(checkpoint)) from error
        raise


def write_whole(path: Path, text: str) -> None:
    """Writes a file under its name when it is complete: a Ctrl-C leaves no half of it.

    Args:
        path: The file. What is no plain file of its own, such as a pipe, a link or /dev/stdout, is
            written to as it is, and so is what cannot be replaced, such as a mounted file.
        text: Its content, written as UTF-8.

    Raises:
        OSError: It cannot be written.
    """
    part = path.with_name(f".partial-{path.name}")
    try:
        if path.is_symlink() or (path.exists() and not _is_own(path)):
            raise FileExistsError(path)
        part.touch()
    except OSError:  # a directory of another user, a read-only one, a long name
        path.write_text(text, encoding="utf-8")
        return
    try:
        part.write_text(text, encoding="utf-8")
        if path.exists():
            shutil.copymode(path, part)
        try:
            part.replace(path)
        except OSError:  # a file that is mounted by itself, or another user's
            path.write_text(text, encoding="utf-8")
    finally:
        part.unlink(missing_ok=True)


def _is_own(path: Path) -> bool:
    """Whether it is a plain file of one name that may be written: replacing it changes no other."""
    return path.is_file() and path.stat().st_nlink == 1 and os.access(path, os.W_OK)


def is_full(error: BaseException) -> bool:
    """Whether a failure comes of a full disk: safetensors and torch raise types of their own."""
    if isinstance(error, OSError):
        return error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
    text = str(error)
    return "os error 28" in text or "No space left" in text or "PytorchStreamWriter" in text


@contextlib.contextmanager
def _own_folder(target: Path) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.partial-", dir=target.parent))
    try:
        yield folder
    finally:
        with held():
            shutil.rmtree(folder, ignore_errors=True)


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

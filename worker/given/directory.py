"""Why a path is no checkpoint: a model's name on the hub, a file, a folder one level too high."""

from __future__ import annotations

import re
from difflib import get_close_matches
from pathlib import Path

from .wording import CLOSE, listed

_HUB_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9._-]+)?")
_INSIDE = ("*/config.json", "snapshots/*/config.json")
"""Where a run's folder and the hub's cache have their checkpoints."""
MOST_NAMED = 3
"""Checkpoints one level down that a line names."""


def trouble(path: Path) -> str | None:
    """Why a path cannot be read as a checkpoint, and what to do.

    Args:
        path: As the user wrote it.

    Returns:
        One line; None where the directory can be looked into.
    """
    try:
        if path.is_dir():
            if wrong := adapter(path):
                return wrong
            return None if (path / "config.json").is_file() else _without_config(path)
        if path.exists():
            whole = f": give {path.parent}" if (path.parent / "config.json").is_file() else ""
            return f"{path} is a file, and a checkpoint is a directory{whole}"
    except OSError as error:
        return f"{path} cannot be read: {error.strerror}"
    return f"there is no directory {path}: {_advice(path)}"


def adapter(path: Path) -> str | None:
    """The line for a directory that holds an adapter, which is no model by itself; else None."""
    if not (path / "adapter_config.json").is_file():
        return None
    return (
        f"{path} holds an adapter (adapter_config.json), as LoRA's, which changes the weights of "
        "another model: merge the two with peft (merge_and_unload), save the result and the "
        "tokenizer with save_pretrained, and give that directory"
    )


def nearby(path: Path) -> str:
    """`; did you mean PATH?` where a directory of a similar name is there, else nothing."""
    try:
        names = [each.name for each in path.parent.iterdir() if each.is_dir()]
    except OSError:
        return ""
    close = get_close_matches(path.name, names, n=1, cutoff=CLOSE)
    return f"; did you mean {path.with_name(close[0])}?" if close else ""


def _advice(path: Path) -> str:
    name = str(path)
    make = "make one with emotion-train run --output"
    local = path.parent != Path() and path.parent.is_dir()
    if not local and _HUB_NAME.fullmatch(name) and re.search(r"[/-]", name):
        return (
            f"{make}; or, if {name} is a model on the hub, which is never asked from here, fetch "
            f"it with `hf download {name} --local-dir DIR` and give DIR"
        )
    return make + nearby(path)


def _without_config(path: Path) -> str | None:
    if not any(path.iterdir()):
        return f"{path} is empty: there is no config.json in it"
    inside = sorted(str(found.parent) for each in _INSIDE for found in path.glob(each))
    if not inside:
        return None
    if len(inside) > MOST_NAMED:
        inside = [*inside[:MOST_NAMED], "another"]
    return f"{path} has no config.json, its folders have: give {listed(inside)}"

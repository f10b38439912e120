"""The files that a user gives settings in: `.env`, and a directory of secrets."""

from __future__ import annotations

import io
import logging
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from dotenv.parser import parse_stream

from .problems import Wrong

if TYPE_CHECKING:
    from pydantic_settings import BaseSettings


def env_lines(kind: type[BaseSettings]) -> tuple[list[str], dict[str, str]]:
    """Reads `.env` for what python-dotenv passes over.

    That is a line that it cannot read: the worker would read a topic that nobody named. No value is
    repeated: it may be a password.

    Returns:
        A line for each line of the file that cannot be read, and the names in it as the user wrote
        them, by their lower-case form.

    Raises:
        Wrong: The file is there and cannot be read.
    """
    path = Path(str(kind.model_config["env_file"]))
    if not os.path.lexists(path):
        return [], {}
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode) or stat.S_ISFIFO(mode):
            what = "directory" if stat.S_ISDIR(mode) else "pipe"
            raise Wrong(f".env: is a {what}; a file of NAME=value lines is read")
        content = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise Wrong(f".env: is not UTF-8 (at byte {error.start})") from error
    except OSError as error:
        raise Wrong(f".env: cannot be read: {error.strerror}") from error
    logging.getLogger("dotenv.main").setLevel(logging.ERROR)  # the lines below name it
    prefix = str(kind.model_config["env_prefix"]).lower()
    lines, spelled = [], {}
    for each in parse_stream(io.StringIO(content)):
        number = each.original.line + _blank_lines_before(each.original.string)
        if each.error:
            lines.append(
                f".env: line {number} cannot be read: it takes NAME=value; a value that begins "
                "with a quote ends with the same"
            )
        elif each.key is not None and each.key.lower().startswith(prefix):
            if each.value is None:
                lines.append(f".env: {each.key}: a value is missing (line {number})")
            spelled[each.key.lower()] = each.key
    return lines, spelled


def _blank_lines_before(text: str) -> int:
    return text[: len(text) - len(text.lstrip())].count("\n")


def secret_files(folder: str) -> dict[str, Path]:
    """The files of a directory of secrets, by lower-case name.

    Raises:
        Wrong: There is no such directory, or a file in it cannot be read.
    """
    try:
        path = Path(folder).expanduser()
    except RuntimeError as error:
        raise Wrong(f"{folder!r}: there is no such user") from error
    try:
        files = {file.name.lower(): file for file in sorted(path.iterdir()) if file.is_file()}
    except OSError as error:
        raise Wrong(f"{folder!r} cannot be read as a directory: {error.strerror}") from error
    for file in files.values():
        try:
            file.read_text("utf-8")
        except UnicodeDecodeError as error:
            raise Wrong(f"{file} is not UTF-8 (at byte {error.start})") from error
        except OSError as error:
            raise Wrong(f"{file} cannot be read: {error.strerror}") from error
    return files

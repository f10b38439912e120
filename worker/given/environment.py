"""The places of settings that are variables: the environment, `.env` and secret files.

pydantic-settings reads each of them.
"""

from __future__ import annotations

import io
import logging
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dotenv.parser import parse_stream
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    NestedSecretsSettingsSource,
    SecretsSettingsSource,
    SettingsError,
)

from .problems import Wrong
from .sources import Place, usable
from .tree import groups_of, settings_of
from .wording import NO_SUCH, meant

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from .tree import Setting


_SINGLE_QUOTED = re.compile(r"\s*(export\s+)?('[^']+'|[^=#\s]+)[^\S\r\n]*=[^\S\r\n]*'")
"""A line of `.env` up to the quote before its value."""


def read(
    kind: type[BaseSettings], all_kinds: Sequence[type[BaseSettings]], folder: str | None
) -> tuple[list[Place], list[str]]:
    """What the environment, `.env` and the secret files give.

    Args:
        kind: The settings to read.
        all_kinds: Those of all commands that share the environment: their variables are known too.
        folder: Name of the variable with the directory of secret files, where there is one.

    Returns:
        The places, the first of which wins, and a line for each thing that cannot be used.
    """
    prefix = str(kind.model_config["env_prefix"])
    names = _Variables(
        kind=kind,
        prefix=prefix,
        known=frozenset(
            f"{prefix}{'__'.join(setting)}".upper()
            for each in all_kinds
            for setting in settings_of(each)
        ),
        reserved=frozenset({folder} if folder else ()),
    )
    spelled = {name.lower(): name for name in os.environ}
    environment = names.place(EnvSettingsSource(kind), lambda key: spelled.get(key, key.upper()))
    found = [environment, _env_file(names, folder), _secrets(names, folder, spelled)]
    places = [place for place, _ in found if place is not None]
    return places, [line for _, lines in found for line in lines]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Variables:
    """The names of the variables that a program knows."""

    kind: type[BaseSettings]
    prefix: str
    known: frozenset[str]
    """In upper case."""
    reserved: frozenset[str]
    """Variables with the prefix that are no settings."""

    def key(self, setting: Setting) -> str:
        return (self.prefix + "__".join(setting)).lower()

    def place(
        self, source: EnvSettingsSource, written: Callable[[str], str], *, secret: bool = False
    ) -> tuple[Place, list[str]]:
        """What a source gives, without the unknown names, each of which gets a line."""
        names = [name for name in source.env_vars if name.startswith(self.prefix.lower())]
        unknown = [name for name in names if name.upper() not in self.known | self.reserved]
        problems = [
            f"{written(name)}: {NO_SUCH}{meant(name, sorted(self.known), prefix=self.prefix)}"
            for name in sorted(unknown)
        ]
        kept = {
            name: source.env_vars[name]
            for name in names
            if name not in unknown
            and name.upper() not in self.reserved
            # A name without a value, in `.env`, has a line already.
            and source.env_vars[name] is not None
        }
        source.env_vars, broken = usable(kept, groups_of(self.kind, self.key), written)
        place = Place(
            values=source.env_vars,
            tree=source(),
            key=self.key,
            name=lambda setting: self.key(setting).upper(),
            written=written,
            secret=secret,
        )
        return place, [*problems, *broken]


def _env_file(names: _Variables, folder: str | None) -> tuple[Place | None, list[str]]:
    try:
        lines, spelled, literal = _env_lines(names.kind)
    except Wrong as error:
        return None, [str(error)]
    source = DotEnvSettingsSource(names.kind)
    source.env_vars = {**source.env_vars, **literal}
    place, problems = names.place(source, lambda key: f".env: {spelled.get(key, key.upper())}")
    if folder and folder.lower() in spelled:
        problems.append(
            f".env: {spelled[folder.lower()]}: is read from the environment alone: set it there"
        )
    return place, [*lines, *problems]


def _secrets(
    names: _Variables, folder: str | None, spelled: Mapping[str, str]
) -> tuple[Place | None, list[str]]:
    variable = spelled.get(folder.lower()) if folder else None
    path = os.environ.get(variable) if variable else None
    if not path:
        return None, []
    lines: list[str] = []
    try:
        files = _files(path)
        lines += _unprefixed(files, names.known, names.prefix)
        place, problems = names.place(
            NestedSecretsSettingsSource(SecretsSettingsSource(names.kind, secrets_dir=path)),
            lambda key: str(files.get(key, key.upper())),
            secret=True,
        )
    except (Wrong, SettingsError) as error:
        return None, [*lines, f"{variable}: {error}"]
    return place, [*lines, *problems]


def _env_lines(kind: type[BaseSettings]) -> tuple[list[str], dict[str, str], dict[str, str]]:
    """Reads `.env` for what python-dotenv passes over.

    That is a line that it cannot read: the worker would read a topic that nobody named. And that a
    value in single quotes is meant as it is, as in a shell: python-dotenv replaces `${NAME}` there
    too. No value is repeated: it may be a password.

    Returns:
        A line for each line of the file that cannot be read; the names in it as the user wrote
        them, by their lower-case form; and the values in single quotes, likewise.

    Raises:
        Wrong: The file is there and cannot be read.
    """
    path = Path(str(kind.model_config["env_file"]))
    if not os.path.lexists(path):
        return [], {}, {}
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
    lines: list[str] = []
    spelled: dict[str, str] = {}
    literal: dict[str, str] = {}
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
            literal.pop(each.key.lower(), None)  # the last line of a name counts
            if each.value is not None and _SINGLE_QUOTED.match(each.original.string):
                literal[each.key.lower()] = each.value
    return lines, spelled, literal


def _blank_lines_before(text: str) -> int:
    return text[: len(text) - len(text.lstrip())].count("\n")


def _files(folder: str) -> dict[str, Path]:
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


def _unprefixed(files: Mapping[str, Path], known: frozenset[str], prefix: str) -> list[str]:
    """A line for each secret file that would be passed over, since its name lacks the prefix."""
    return [
        f"{file}: {NO_SUCH}; did you mean {prefix}{name.upper()}?"
        for name, file in files.items()
        if f"{prefix}{name}".upper() in known
    ]

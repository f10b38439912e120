"""The places that settings come from: command line, environment, `.env` and secret files.

pydantic-settings reads each of them. What it cannot use (an unknown name, a group that is no JSON)
becomes a line and is left out, so that the rest is still validated.
"""

from __future__ import annotations

import io
import logging
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from .tree import field_of, groups_of, holds, json_object, settings_of
from .wording import NO_SUCH, meant, shown, wanted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from .flags import Flags
    from .tree import Setting


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One place that settings come from."""

    values: Mapping[str, Any]
    """What was given there, by key: a lower-case variable or an option's dotted name."""
    tree: dict[str, Any]
    """The same, as pydantic validates it."""
    key: Callable[[Setting], str]
    name: Callable[[Setting], str]
    """How a setting is spelled there."""
    written: Callable[[str], str]
    """How the user spelled what has this key."""
    secret: bool = False
    """Whether no value from there may be repeated."""

    def has(self, setting: Setting) -> str | None:
        """The name under which the user gave a setting here; None where it is not given here."""
        if self.key(setting) in self.values:
            return self.written(self.key(setting))
        for length in range(len(setting) - 1, 0, -1):
            group, rest = setting[:length], setting[length:]
            if self.key(group) in self.values and holds(self.values[self.key(group)], rest):
                inside = ".".join(part or "''" for part in rest)
                return f"{self.written(self.key(group))}: {inside}"
        return None


def command_line(kind: type[BaseSettings], given: Flags) -> tuple[Place, list[str]]:
    def key(setting: Setting) -> str:
        return ".".join(setting)

    def written(key: str) -> str:
        return given.written.get(key, f"--{key.replace('_', '-')}")

    problems = []
    for name in [*given.valueless, *given.unread]:
        field = field_of(kind, tuple(name.split(".")))
        if field is not None:
            value = " and ".join(shown(item, secret=False) for item in given.unread.get(name, ()))
            what = f"{value} is not" if value else "a value is missing:"
            problems.append(f"{written(name)}: {what} {wanted(field)}")
    source = given.source
    source.env_vars, broken = _usable(source.env_vars, groups_of(kind, key), written)
    place = Place(
        values=source.env_vars,
        tree=source(),
        key=key,
        name=lambda setting: written(key(setting)),
        written=written,
    )
    return place, [*given.problems, *problems, *broken]


def variables_of(
    kind: type[BaseSettings], variables: Sequence[type[BaseSettings]], folder: str | None
) -> tuple[list[Place], list[str]]:
    prefix = str(kind.model_config["env_prefix"])
    known = {
        f"{prefix}{'__'.join(setting)}".upper()
        for each in variables
        for setting in settings_of(each)
    }
    reserved = {folder} if folder else set()
    places: list[Place] = []
    problems: list[str] = []

    def key(setting: Setting) -> str:
        return (prefix + "__".join(setting)).lower()

    def add(source: EnvSettingsSource, written: Callable[[str], str], *, secret: bool) -> None:
        names = [name for name in source.env_vars if name.startswith(prefix.lower())]
        unknown = [name for name in names if name.upper() not in known | reserved]
        problems.extend(
            f"{written(name)}: {NO_SUCH}{meant(name, sorted(known), prefix=prefix)}"
            for name in sorted(unknown)
        )
        kept = {
            name: source.env_vars[name]
            for name in names
            if name not in unknown
            and name.upper() not in reserved
            # Of a name without a value, in `.env`, there is a line already.
            and source.env_vars[name] is not None
        }
        source.env_vars, broken = _usable(kept, groups_of(kind, key), written)
        problems.extend(broken)
        places.append(
            Place(
                values=source.env_vars,
                tree=source(),
                key=key,
                name=lambda setting: key(setting).upper(),
                written=written,
                secret=secret,
            )
        )

    environment = {name.lower(): name for name in os.environ}
    add(EnvSettingsSource(kind), lambda key: environment.get(key, key.upper()), secret=False)
    try:
        lines, spelled = _env_lines(kind)
        problems.extend(lines)
        source = DotEnvSettingsSource(kind)
        add(source, lambda key: f".env: {spelled.get(key, key.upper())}", secret=False)
        if folder and folder.lower() in spelled:
            problems.append(
                f".env: {spelled[folder.lower()]}: is read from the environment alone: set it there"
            )
    except Wrong as error:
        problems.append(str(error))
    folder = environment.get(folder.lower()) if folder else None
    path = os.environ.get(folder) if folder else None
    if path:
        try:
            files = _files(path)
            problems.extend(_unprefixed(files, known, prefix))
            secrets = SecretsSettingsSource(kind, secrets_dir=path)
            add(
                NestedSecretsSettingsSource(secrets),
                lambda key: str(files.get(key, key.upper())),
                secret=True,
            )
        except (Wrong, SettingsError) as error:
            problems.append(f"{folder}: {error}")
    return places, problems


def _env_lines(kind: type[BaseSettings]) -> tuple[list[str], dict[str, str]]:
    """Of `.env`: a line for each of its lines that cannot be read, and its names as written.

    python-dotenv passes over a line that it cannot read; what it says would be lost, and the
    worker would read a topic that nobody named. No value is repeated: it may be a password.

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
    logging.getLogger("dotenv.main").setLevel(logging.ERROR)  # said here, and better
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


def _files(folder: str) -> dict[str, Path]:
    """The files of a directory of secrets, by lower-case name.

    Raises:
        Wrong: It is not there, is no directory, or one of them cannot be read.
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


def _unprefixed(files: Mapping[str, Path], known: set[str], prefix: str) -> list[str]:
    """A line for each secret that would be passed over, because its name lacks the prefix."""
    return [
        f"{file}: {NO_SUCH}; did you mean {prefix}{name.upper()}?"
        for name, file in files.items()
        if f"{prefix}{name}".upper() in known
    ]


def _usable(
    values: Mapping[str, Any], groups: frozenset[str], written: Callable[[str], str]
) -> tuple[dict[str, Any], list[str]]:
    """The values without whole groups that are no JSON object, and a line for each of those."""
    broken = [name for name in values if name in groups and json_object(values[name]) is None]
    lines = [
        f"{written(name)}: the value (not shown) is not a JSON object; its settings can be given "
        "one by one"
        for name in broken
    ]
    return {name: value for name, value in values.items() if name not in broken}, lines

"""The places that settings come from: command line, environment, `.env` and secret files.

pydantic-settings reads each of them. What it cannot use (an unknown name, a group that is no JSON)
becomes a line and is left out, so that the rest is still validated.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    NestedSecretsSettingsSource,
    SecretsSettingsSource,
    SettingsError,
)

from .problems import Wrong
from .reading import env_lines, secret_files
from .tree import field_of, groups_of, holds, json_object, settings_of
from .wording import NO_SUCH, meant, shown, wanted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from .flags import Flags
    from .tree import Setting


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One place that settings come from."""

    values: Mapping[str, Any]
    """The values that it gives, by key: a lower-case variable or an option's dotted name."""
    tree: dict[str, Any]
    """The same, as pydantic validates it."""
    key: Callable[[Setting], str]
    """The key of a setting."""
    name: Callable[[Setting], str]
    """How a setting is spelled there, where the user has not written it."""
    written: Callable[[str], str]
    """How the user wrote the name that has this key."""
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
    """What the command line gives.

    Args:
        kind: The settings that are its options.
        given: The command line, read.

    Returns:
        The place, and a line for each thing in it that cannot be used.
    """

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


def variables(
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
        source.env_vars, broken = _usable(kept, groups_of(self.kind, self.key), written)
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
        lines, spelled = env_lines(names.kind)
    except Wrong as error:
        return None, [str(error)]
    place, problems = names.place(
        DotEnvSettingsSource(names.kind), lambda key: f".env: {spelled.get(key, key.upper())}"
    )
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
        files = secret_files(path)
        lines += _unprefixed(files, names.known, names.prefix)
        place, problems = names.place(
            NestedSecretsSettingsSource(SecretsSettingsSource(names.kind, secrets_dir=path)),
            lambda key: str(files.get(key, key.upper())),
            secret=True,
        )
    except (Wrong, SettingsError) as error:
        return None, [*lines, f"{variable}: {error}"]
    return place, [*lines, *problems]


def _unprefixed(files: Mapping[str, Path], known: frozenset[str], prefix: str) -> list[str]:
    """A line for each secret file that would be passed over, since its name lacks the prefix."""
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

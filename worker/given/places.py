"""Where each setting was given, under which name, and all that is wrong with it in one go.

pydantic-settings reads the places: command line, environment, `.env` and secret files. What cannot
be used (an unknown name, a group that is no JSON) is named and left out, so that the rest is still
validated and its problems are named in the same run.
"""

from __future__ import annotations

import io
import logging
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from dotenv.parser import parse_stream
from pydantic import ValidationError
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    NestedSecretsSettingsSource,
    SecretsSettingsSource,
    SettingsError,
)

from . import flags
from .tree import (
    field_of,
    groups_of,
    holds,
    json_object,
    laid_over,
    model_of,
    setting_of,
    settings_of,
    without,
)
from .wording import NO_SUCH, is_secret, meant, refused, shown, wanted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from pydantic.fields import FieldInfo

    from .tree import Setting

S = TypeVar("S", bound=BaseSettings)
_NAMED = re.compile(r"\{([a-z_.]+)\}")


class Wrong(ValueError):
    """Settings cannot be used: its text has one line for each problem."""


def together(lines: Sequence[str]) -> None:
    """Refuses settings that are each fine and do not go together.

    Args:
        lines: One for each problem. `{session_timeout}` in it becomes the name as the user wrote
            it, relative to the group whose validator calls this.

    Raises:
        ValueError: There is a line.
    """
    if lines:
        raise ValueError("\n".join(lines))


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


def read(
    kind: type[S],
    words: Sequence[str],
    *,
    prog: str,
    variables: Sequence[type[BaseSettings]] = (),
    folder: str | None = None,
    texts: bool = False,
) -> tuple[S, tuple[str, ...]]:
    """The settings, and the positional words where `texts` allows them.

    Args:
        kind: The settings to read.
        words: The command line, without the program and the command.
        prog: Both of these.
        variables: The settings that are variables too, of all commands that share the
            environment; none: options only.
        folder: Name of the variable with the directory of secret files, where there is one.
        texts: Whether the command takes positional words.

    Raises:
        Wrong: With one line for each problem.
        SystemExit: Help was asked for, and printed.
    """
    given = flags.read(kind, words, prog=prog, texts=texts)
    line, problems = _command_line(kind, given)
    places = [line]
    if variables:
        others, wrong = _variables(kind, variables, folder)
        places, problems = [*places, *others], [*wrong, *problems]
    merged: dict[str, Any] = {}
    for place in reversed(places):
        merged = laid_over(merged, place.tree)
    absent = {tuple(name.split(".")) for name in [*given.valueless, *given.unread]}
    try:
        # It has been read: `kind` would read it again, and fail on what is named already.
        settings = kind(_env_file=None, **merged)
    except ValidationError as error:
        problems += _explained(kind, error, merged, places, absent)
        raise Wrong("\n".join(problems)) from error
    if problems:
        raise Wrong("\n".join(problems))
    return settings, given.texts


def _command_line(kind: type[BaseSettings], given: flags.Flags) -> tuple[Place, list[str]]:
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


def _variables(
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


def _explained(
    kind: type[BaseSettings],
    error: ValidationError,
    merged: dict[str, Any],
    places: Sequence[Place],
    absent: set[Setting],
) -> list[str]:
    lines = []
    faulty = set(absent)
    for problem in error.errors(include_url=False):
        setting = setting_of(problem)
        field = field_of(kind, setting)
        if _is_combination(problem, field) or setting in absent:
            continue
        faulty.add(setting)
        beside = [each[-1] for each in settings_of(kind) if each[:-1] == setting[:-1]]
        lines.append(_line(problem, setting, field, places=places, beside=beside))
    # Again without them: else two topics that are one would be named only in the next run. And
    # again without the groups that do not go together, for what is asked of all groups comes last.
    while True:
        try:
            kind(_env_file=None, **without(merged, faulty))
        except ValidationError as rest:
            problems = [
                problem
                for problem in rest.errors(include_url=False)
                if _is_combination(problem, field_of(kind, setting_of(problem)))
            ]
        else:
            return lines
        for problem in problems:
            lines += _combinations(problem, faulty, places)
        groups = {setting_of(problem) for problem in problems} - {()} - faulty
        if not groups:
            return lines
        faulty |= {
            each for each in settings_of(kind) for group in groups if each[: len(group)] == group
        }


def _line(
    problem: Any,
    setting: Setting,
    field: FieldInfo | None,
    *,
    places: Sequence[Place],
    beside: Sequence[str],
) -> str:
    if problem["type"] == "missing" and field is not None:
        option, *others = [place.name(setting) for place in places]
        return f"{option}: is required: {wanted(field)}{f' (or {others[0]})' if others else ''}"
    place = next((place for place in places if place.has(setting)), places[0])
    name = place.has(setting) or place.name(setting)
    if field is None:
        return f"{name}: {NO_SUCH}{meant(setting[-1], beside)}"
    secret = place.secret or is_secret(setting, field)
    return f"{name}: {refused(problem, field, secret=secret)}"


def _combinations(problem: Any, faulty: set[Setting], places: Sequence[Place]) -> Iterator[str]:
    """The lines of `together`, but for those that speak of a setting whose value is wrong."""
    group = setting_of(problem)
    for line in str(problem["ctx"]["error"]).splitlines():
        settings = [(*group, *name.split(".")) for name in _NAMED.findall(line)]
        if faulty.isdisjoint(settings):
            yield _named(line, group, settings, places)


def _named(line: str, group: Setting, settings: Sequence[Setting], places: Sequence[Place]) -> str:
    given = [place for setting in settings for place in places if place.has(setting)]
    # What was not given is spelled as the first that was.
    spelled = (given or list(places))[0]

    def name(found: re.Match[str]) -> str:
        setting = (*group, *found[1].split("."))
        names = (place.has(setting) for place in places)
        return next((name for name in names if name), None) or spelled.name(setting)

    return _NAMED.sub(name, line)


def _is_combination(problem: Any, field: FieldInfo | None) -> bool:
    whole = not problem["loc"] or model_of(field) is not None
    return whole and problem["type"] == "value_error"

"""A place that settings come from; here the command line, in `environment.py` the other ones.

What a place gives and cannot be used (an unknown name, a group that is no JSON) becomes a line and
is left out, so that the rest is still validated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .tree import field_of, groups_of, holds, json_object
from .wording import shown, wanted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pydantic_settings import BaseSettings

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
    source.env_vars, broken = usable(source.env_vars, groups_of(kind, key), written)
    place = Place(
        values=source.env_vars,
        tree=source(),
        key=key,
        name=lambda setting: written(key(setting)),
        written=written,
    )
    return place, [*given.problems, *problems, *broken]


def usable(
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

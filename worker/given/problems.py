"""What is wrong with settings: one line for each problem, under the name that the user wrote."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from .tree import field_of, model_of, setting_of, settings_of, without
from .wording import NO_SUCH, is_secret, meant, refused, wanted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pydantic.fields import FieldInfo
    from pydantic_settings import BaseSettings

    from .sources import Place
    from .tree import Setting

_NAMED = re.compile(r"\{([a-z_.]+)\}")
"""A setting in a line of `together`."""


class Wrong(ValueError):
    """Settings cannot be used: its text has one line for each problem."""


def together(lines: Sequence[str]) -> None:
    """Refuses settings that are valid one by one but contradict one another.

    Args:
        lines: One for each problem. `{session_timeout}` in it becomes the name as the user wrote
            it, relative to the group whose validator calls this.

    Raises:
        ValueError: There is a line.
    """
    if lines:
        raise ValueError("\n".join(lines))


def explained(
    kind: type[BaseSettings],
    error: ValidationError,
    merged: dict[str, Any],
    places: Sequence[Place],
    absent: set[Setting],
) -> list[str]:
    """The lines for all that pydantic, and the validators that call `together`, refuse.

    Args:
        kind: The settings.
        error: What pydantic raised.
        merged: The values of all places.
        places: The places, the first of which wins.
        absent: Settings of which a line is printed already.
    """
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
    # Validated again without the faulty ones: else two topics that are one would be named only in
    # the next run. And again without the groups that contradict themselves: what is asked of
    # several groups is validated last.
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
    """The lines of `together`, except those that name a setting whose value is wrong."""
    group = setting_of(problem)
    for line in str(problem["ctx"]["error"]).splitlines():
        settings = [(*group, *name.split(".")) for name in _NAMED.findall(line)]
        if faulty.isdisjoint(settings):
            yield _named(line, group, settings, places)


def _named(line: str, group: Setting, settings: Sequence[Setting], places: Sequence[Place]) -> str:
    given = [place for setting in settings for place in places if place.has(setting)]
    # A setting that was not given is spelled as in the place of the first that was.
    spelled = (given or list(places))[0]

    def name(found: re.Match[str]) -> str:
        setting = (*group, *found[1].split("."))
        names = (place.has(setting) for place in places)
        return next((name for name in names if name), None) or spelled.name(setting)

    return _NAMED.sub(name, line)


def _is_combination(problem: Any, field: FieldInfo | None) -> bool:
    whole = not problem["loc"] or model_of(field) is not None
    return whole and problem["type"] == "value_error"

"""The tree of a settings class, and of the values that are given for it."""

from __future__ import annotations

import json
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pydantic.fields import FieldInfo

Setting = tuple[str, ...]
"""Path of a setting in the tree: `("batch", "max_records")`; `()` is the whole of it."""


def setting_of(problem: Any) -> Setting:
    """The setting that one of pydantic's problems is about, without the index into a list."""
    return tuple(takewhile(lambda part: isinstance(part, str), problem["loc"]))


def settings_of(kind: type[BaseModel], above: Setting = ()) -> Iterator[Setting]:
    """Every group and every setting of a tree."""
    for name, field in kind.model_fields.items():
        yield (*above, name)
        inner = model_of(field)
        if inner is not None:
            yield from settings_of(inner, (*above, name))


def field_of(kind: type[BaseModel], setting: Setting) -> FieldInfo | None:
    """The field of a setting or a group; None where there is none of that name."""
    field = None
    model: type[BaseModel] | None = kind
    for name in setting:
        field = model.model_fields.get(name) if model is not None else None
        model = model_of(field)
    return field


def model_of(field: FieldInfo | None) -> type[BaseModel] | None:
    """The class of a group; None for a setting."""
    kind = field.annotation if field is not None else None
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def groups_of(kind: type[BaseModel], key: Callable[[Setting], str]) -> frozenset[str]:
    """The keys of all groups in a tree."""
    return frozenset(key(each) for each in settings_of(kind) if model_of(field_of(kind, each)))


def json_object(value: Any) -> dict[str, Any] | None:
    """The object that a text holds as JSON; None where it holds something else."""
    try:
        found = json.loads(value)
    except (TypeError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def holds(value: Any, setting: Setting) -> bool:
    """Whether a group that was given as JSON has a setting, be it null."""
    found: Any = json_object(value)
    for name in setting:
        if not isinstance(found, dict) or name not in found:
            return False
        found = found[name]
    return True


def laid_over(low: dict[str, Any], high: dict[str, Any]) -> dict[str, Any]:
    """Both trees as one; where both have a value, that of `high`."""
    both = low | high
    for name in low.keys() & high.keys():
        if isinstance(low[name], dict) and isinstance(high[name], dict):
            both[name] = laid_over(low[name], high[name])
    return both


def without(tree: dict[str, Any], faulty: set[Setting], above: Setting = ()) -> dict[str, Any]:
    """A tree without some of its settings."""
    return {
        name: without(value, faulty, (*above, name)) if isinstance(value, dict) else value
        for name, value in tree.items()
        if (*above, name) not in faulty
    }

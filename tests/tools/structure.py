"""The structure in figures: files, lines, classes, constructors, arrows between rooms.

    python -m tests.tools.structure [PACKAGE ...]

A room is what stands directly in a package: a module, or a folder with all that is in it. An arrow
is one room that imports another, however often, imports for types alone included. Fields are
the attributes that a class's methods assign to ``self``, and the annotated ones of a dataclass.
Lines of a class are those from its first line to its last, decorators left out.
"""

from __future__ import annotations

import ast
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Class:
    """A class and its size."""

    module: str
    name: str
    lines: int
    fields: int
    parameters: int
    """Of its constructor, without ``self``."""


@dataclass(frozen=True)
class Module:
    """A module, its size and what it imports of its own package."""

    name: str
    lines: int
    classes: tuple[Class, ...]
    imports: frozenset[str]


def modules(package: str) -> list[Module]:
    """All modules of a package, by name. A folder that is a link to another is left out."""
    found = []
    for path in sorted((ROOT / package).rglob("*.py")):
        if any(parent.is_symlink() for parent in path.parents):
            continue
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text)
        found.append(
            Module(
                name=name,
                lines=len(text.splitlines()),
                classes=tuple(
                    _class(name, node) for node in ast.walk(tree) if isinstance(node, ast.ClassDef)
                ),
                imports=frozenset(_imports(tree, package)),
            )
        )
    return found


def room(name: str) -> str:
    """The room of a module: ``worker.kafka`` of ``worker.kafka.consume.source``."""
    return ".".join(name.split(".")[:2])


def arrows(found: list[Module]) -> set[tuple[str, str]]:
    """Pairs of rooms of which the first imports the second."""
    names = {module.name for module in found}
    pairs = set()
    for module in found:
        for imported in module.imports:
            # ``from worker.kafka import access`` names a module or something in one.
            target = imported if imported in names else imported.rpartition(".")[0]
            pairs.add((room(module.name), room(target)))
    return {(one, other) for one, other in pairs if one != other and "." in one and "." in other}


def _class(module: str, node: ast.ClassDef) -> Class:
    fields = {
        each.target.id
        for each in node.body
        if isinstance(each, ast.AnnAssign)
        and isinstance(each.target, ast.Name)
        and not ast.unparse(each.annotation).startswith("ClassVar")
    }
    parameters = 0
    for method in node.body:
        if not isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if method.name == "__init__":
            parameters = len(method.args.args) - 1 + len(method.args.kwonlyargs)
        for each in ast.walk(method):
            targets = each.targets if isinstance(each, ast.Assign) else []
            if isinstance(each, ast.AnnAssign | ast.AugAssign):
                targets = [each.target]
            for target in targets:
                flat = target.elts if isinstance(target, ast.Tuple) else [target]
                fields |= {
                    one.attr
                    for one in flat
                    if isinstance(one, ast.Attribute)
                    and isinstance(one.value, ast.Name)
                    and one.value.id == "self"
                }
    lines = (node.end_lineno or node.lineno) - node.lineno + 1
    return Class(module, node.name, lines, len(fields), parameters)


def _imports(tree: ast.AST, package: str) -> set[str]:
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {f"{alias.name}." for alias in node.names}
    return {name for name in found if name.split(".")[0] == package}


def _print(package: str) -> None:
    found = modules(package)
    classes = [each for module in found for each in module.classes]
    rooms = {room(module.name) for module in found if "." in module.name}
    print(f"{package}: {len(found)} files, {sum(module.lines for module in found):,} lines, "
          f"{len(rooms)} rooms, {len(arrows(found))} arrows, {len(classes)} classes")  # fmt: skip
    print("  longest modules:", ", ".join(
        f"{module.name} {module.lines}"
        for module in sorted(found, key=lambda each: -each.lines) if module.lines > 300
    ))  # fmt: skip
    print("  classes over 200 lines or 10 fields:", ", ".join(
        f"{each.name} {each.lines}/{each.fields}"
        for each in sorted(classes, key=lambda each: -each.lines)
        if each.lines > 200 or each.fields > 10
    ))  # fmt: skip
    most = max(classes, key=lambda each: each.parameters)
    print(f"  longest constructor: {most.name}, {most.parameters} parameters")


if __name__ == "__main__":
    for chosen in sys.argv[1:] or ["worker", "train"]:
        _print(chosen)

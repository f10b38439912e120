"""The command line of a settings class: all that is wrong with it at once, and a plain `--help`.

argparse stops at the first option that it does not know or that has no value. Here neither stops
it: both become problems, one line each, beside the values that were understood.
"""

from __future__ import annotations

import re
import textwrap
from argparse import SUPPRESS, ArgumentParser, HelpFormatter
from dataclasses import dataclass
from inspect import cleandoc
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NoReturn

from pydantic_settings import CliSettingsSource, SettingsError

from .wording import meant, shown

if TYPE_CHECKING:
    from argparse import Action
    from collections.abc import Mapping, Sequence

    from pydantic_settings import BaseSettings

_HELP = frozenset({"-h", "--help"})
_ABSENT = object()
"""Stands for the value of an option that was given without one."""
_OPTION = re.compile(r"--[A-Za-z][A-Za-z0-9._-]*")
_METAVARS = {
    "str": "TEXT",
    "int": "N",
    "float": "NUMBER",
    "Path": "PATH",
    "SecretStr": "SECRET",
    "datetime": "TIME",
}
"""What stands for a value in `--help`, by its type."""
_NO_DEFAULT = re.compile(r" \(default: (None|null|False|\(\)|)\)$")
_WHOLE = re.compile(r"(\(default: -?\d+)\.0\)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags:
    """What a command line says."""

    source: CliSettingsSource[Any]
    """Holds the values that were understood."""
    written: Mapping[str, str]
    """Option as the user wrote it, by the setting's dotted name."""
    valueless: Sequence[str]
    """Dotted names of settings whose option was given without a value."""
    unread: Mapping[str, Any]
    """Dotted names of settings whose value is a list that cannot be split, with the value."""
    problems: Sequence[str]
    """One line for each word that is no option, or that an option does not take."""
    texts: tuple[str, ...]
    """Positional words, where the command takes them."""


class _Misread(Exception):
    """argparse cannot go on."""


class _Formatter(HelpFormatter):
    """Breaks lines between words only, also of the description: not in `dair-ai/emotion`."""

    def _split_lines(self, text: str, width: int) -> list[str]:
        return _folded(text, width)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        # A paragraph with lines that are set in, such as a list, stays as it is.
        return "\n\n".join(
            textwrap.indent(
                paragraph
                if re.search(r"^\s", paragraph, re.MULTILINE)
                else "\n".join(_folded(paragraph, width - len(indent))),
                indent,
            )
            for paragraph in text.split("\n\n")
        )


def _folded(text: str, width: int) -> list[str]:
    return textwrap.wrap(
        " ".join(text.split()), width, break_on_hyphens=False, break_long_words=False
    )


class _Parser(ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise _Misread(message)


def read(
    kind: type[BaseSettings], words: Sequence[str], *, prog: str, texts: bool = False
) -> Flags:
    """Reads a command line.

    Args:
        kind: The settings that are its options.
        words: The command line, without the program and the command.
        prog: Program and command, for `--help`.
        texts: Whether the command takes words that belong to no option.

    Raises:
        SystemExit: Help was asked for, and printed.
    """
    parser = _Parser(
        prog=prog,
        # Without it argparse lists every option twice, here without a word on what it does.
        usage=f"%(prog)s [OPTION VALUE ...]{' [TEXT ...]' if texts else ''}",
        description=cleandoc(kind.__doc__ or ""),
        formatter_class=_Formatter,
        allow_abbrev=False,
    )
    if texts:
        # Not a field: pydantic-settings would split a sentence at its commas.
        parser.add_argument("texts", nargs="*", metavar="TEXT", help="a sentence to label")
    options: dict[str, Action] = {}

    def add(container: Any, *names: str, **how: Any) -> None:
        action = ArgumentParser.add_argument(container, *names, **_plain(names, how))
        options.update(dict.fromkeys(names, action))

    source: CliSettingsSource[Any] = CliSettingsSource(
        kind, root_parser=parser, add_argument_method=add
    )
    if _HELP.isdisjoint(words):
        for action in options.values():
            if action.nargs is None:
                action.nargs, action.const = "?", _ABSENT
    kept, problems = _switches(_joined(words, options), options)
    read_words = parser.parse_known_intermixed_args if texts else parser.parse_known_args
    try:
        parsed, left = read_words(kept)
    except _Misread:
        # Not argparse's own words: they may repeat a password.
        line = f"the options cannot be read: see {prog} --help"
        return Flags(source=source, written={}, valueless=(), unread={}, problems=[line], texts=())
    values = vars(parsed)
    found = tuple(values.pop("texts", ()))
    valueless = [name for name, value in values.items() if _lacks(value)]
    values = {name: value for name, value in values.items() if name not in valueless}
    used = [word.partition("=")[0] for word in words]
    written = {options[name].dest: name for name in used if name in options}
    unread = {name: value for name, value in values.items() if not _readable(source, name, value)}
    source(parsed_args={name: value for name, value in values.items() if name not in unread})
    return Flags(
        source=source,
        written=written,
        valueless=valueless,
        unread=unread,
        problems=[*problems, *_left_over(left, words, list(options))],
        texts=found,
    )


def _plain(names: Sequence[str], how: dict[str, Any]) -> dict[str, Any]:
    """The arguments of `add_argument`, without Python's types and empty defaults."""
    if how["help"] == SUPPRESS:
        return how
    text = _WHOLE.sub(r"\1)", _NO_DEFAULT.sub("", how["help"]))
    metavar = how.get("metavar")
    if metavar is None:  # a switch
        return how | {"help": text}
    several = re.fullmatch(r"tuple\[\{(.+)\},\.\.\.\]", metavar)
    if several:
        text += f" One of {several[1].replace(',', ', ')}."
        metavar = names[0].lstrip("-").upper()
    return how | {"help": text, "metavar": _METAVARS.get(metavar, metavar)}


def _joined(words: Sequence[str], options: Mapping[str, Action]) -> list[str]:
    """The words with `--since -2h` as `--since=-2h`.

    argparse takes what begins with - for an option, be it a negative number or a password.
    """
    joined: list[str] = []
    for word in words:
        before = options.get(joined[-1]) if joined else None
        value = before is not None and before.nargs == "?" and re.match(r"-[^-]", word)
        if value and word not in options:
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return joined


def _switches(words: Sequence[str], options: Mapping[str, Action]) -> tuple[list[str], list[str]]:
    """The words without `--switch=value`, which would stop argparse; and a line for each."""
    kept, problems = [], []
    for word in words:
        name, given, _ = word.partition("=")
        action = options.get(name)
        if given and action is not None and action.nargs == 0:
            problems.append(f"{name}: takes no value; leave it out for the opposite")
        else:
            kept.append(word)
    return kept, problems


def _lacks(value: Any) -> bool:
    return value is _ABSENT or (isinstance(value, list) and _ABSENT in value)


def _readable(source: CliSettingsSource[Any], name: str, value: Any) -> bool:
    """Whether the library can split a list: an item such as `nan` stops it."""
    if not isinstance(value, list):
        return True
    try:
        source(parsed_args={name: value})()
    except SettingsError:
        return False
    return True


def _is_password(word: str, known: Sequence[str]) -> bool:
    """Whether a word is, or was meant to be, an option that takes a password."""
    name = word.partition("=")[0]
    return "password" in name or (name.startswith("--") and "password" in meant(name, known))


def _left_over(left: Sequence[str], words: Sequence[str], known: Sequence[str]) -> list[str]:
    """A line for each word that belongs to no option; it is not repeated where it may be secret."""
    # What follows a misspelt option is its value, and what follows a password may be its rest.
    after_password = {after for before, after in pairwise(words) if _is_password(before, known)}
    near_password = any(_is_password(word, known) for word in words)
    passwords = [name for name in known if "password" in name]
    lines: list[str] = []
    strays: list[str] = []
    follows = False
    for word in left:
        option = _OPTION.match(word)
        name = word.partition("=")[0]
        begins = next((each for each in passwords if name != each and name.startswith(each)), None)
        if word == "--":
            lines.append("--: ends the options, and nothing stands after them: leave it out")
            break
        if begins:
            lines.append(f"{begins}...: there is no such option (its rest is not shown)")
            follows = True
        elif option and word not in after_password:
            lines.append(f"{option[0]}: there is no such option{meant(option[0], known)}")
            follows = True
        elif f"--{name}" in known or (not near_password and meant(name, known)):
            lines.append(f"{name}: an option starts with --{meant(name, known)}")
            follows = True
        elif not follows:
            strays.append(name)
    if strays and near_password:
        lines.append(
            "a word beside a password, not shown, belongs to no option: is a value quoted?"
        )
    elif strays:
        more = f" (and {len(strays) - 1} more)" if strays[1:] else ""
        first = shown(strays[0], secret=False)
        lines.append(f"{first}{more}: belongs to no option: is a value not quoted?")
    return lines

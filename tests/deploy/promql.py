"""What an expression names, found without a parser: promtool says whether it is one."""

import re

from tests.tools.tables import metric_families

WORDS = {
    "and", "bool", "by", "group_left", "group_right", "ignoring", "inf", "nan", "offset", "on",
    "or", "unless", "without",
}  # fmt: skip
RULES_OWN = {"up", "process_start_time_seconds"}
"""What every scrape has, and what Python's client adds to it."""


def selectors(expr):
    """The vector selectors: name and matchers (as text, without braces)."""
    bare = re.sub(r"\b(by|on|without|ignoring|group_left|group_right)\s*\([^)]*\)", " ", expr)
    bare = re.sub(r"\[[^\]]*\]|\b\d+(\.\d+)?(e[+-]?\d+|[smhdwy])?\b", " ", bare)
    bare = re.sub(r'([(,]\s*)"[^"]*"', r"\1", bare)  # arguments of label_replace
    pattern = r'(?P<name>[a-zA-Z_:][\w:]*)(?P<call>\s*\()?(\{(?P<matchers>("[^"]*"|[^"}])*)\})?'
    return [
        (found["name"], found["matchers"] or "")
        for found in re.finditer(pattern, bare)
        if not found["call"] and found["name"].lower() not in WORDS
    ]


def metrics(expr):
    """The metrics, without what a histogram adds to its name."""
    histograms = {name for name, kind, *_ in metric_families() if kind == "histogram"}
    names = set()
    for name, _ in selectors(expr):
        family = re.sub(r"_(bucket|sum|count)$", "", name)
        names.add(family if family in histograms else name)
    return names


def known():
    """The worker's instruments."""
    return {name for name, *_ in metric_families()}

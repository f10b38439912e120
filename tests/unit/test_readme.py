"""README tells the truth: its tables and its tree are those of the code."""

import re

import pytest

from tests.tables import README, ROOT, current, metric_families, tables
from worker.errors import REASONS


@pytest.mark.parametrize("name", ["worker settings", "train settings", "metrics"])
def test_the_table_is_made_from_the_code(name):
    assert current(README.read_text(), name) == tables()[name], "run `make readme`"


def test_the_tree_names_every_module_and_nothing_else():
    listed, folders = set(), []
    for line in current(README.read_text(), "tree").splitlines():
        match = re.match(r"( *)(\S+) {2,}\S|( *)(\S+/)$", line)
        if not match:
            continue
        indent, name = match[1] or match[3] or "", match[2] or match[4]
        folders = [*folders[: len(indent) // 2], name]
        listed.add("".join(folders))
    for path in listed:
        assert (ROOT / path).exists(), f"README's tree names {path}"
    for package in ("worker", "worker/kafka", "worker/model", "train"):
        for module in (ROOT / package).glob("*.py"):
            name = module.relative_to(ROOT).as_posix()
            assert name in listed or module.name == "__init__.py", f"README's tree lacks {name}"


def test_every_reason_of_the_wire_contract_is_explained():
    rows = re.findall(r"^\| `([a-z0-9_]+)` \| [a-z]", README.read_text(), re.MULTILINE)
    assert [row for row in rows if row in REASONS] == list(REASONS)


def test_metrics_are_named_as_prometheus_wants_them():
    for name, kind, labels, text in metric_families():
        assert name.startswith("worker_")
        assert (kind == "counter") == name.endswith("_total")
        assert text.endswith(".")
        assert not set(labels) & {"key", "offset", "text", "message"}

"""The documents tell the truth: their tables, trees and counts are those of the code."""

import re

import pytest

from tests.tools.tables import ROOT, current, documents, holder, metric_families, tables
from worker.errors import REASONS
from worker.kafka.cluster import features
from worker.kafka.consume.group import FETCH_PARTITION_BYTES
from worker.kafka.consume.portion import UNPACK_SECONDS
from worker.kafka.produce.span_size import SPAN_BYTES
from worker.kafka.produce.transaction import DEADLINE, END_SECONDS
from worker.records import HEADER_BYTES
from worker.stages.assemble import TOKENIZE_AT_ONCE, TOKENIZE_BYTES
from worker.stages.dispatch import DECODE_SECONDS
from worker.stages.intake import MOST_AT_ONCE
from worker.watchdog import POLL_DEADLINE


@pytest.mark.parametrize("name", sorted(tables()))
def test_the_table_is_made_from_the_code(name):
    assert current(name) == tables()[name], "run `make readme`"


def test_each_table_is_where_its_reader_looks_for_it():
    places = {name: holder(name) for name in [*tables(), "tree", "short tree"]}
    assert places == {
        "worker settings": "worker/README.md",
        "metrics": "worker/README.md",
        "train settings": "train/README.md",
        "recipes": "train/README.md",
        "tree": "worker/ARCHITECTURE.md",
        "short tree": "README.md",
        **{name: "tests/README.md" for name in tables() if name.startswith("results ")},
    }


@pytest.mark.parametrize("name", ["tree", "short tree"])
def test_a_tree_names_nothing_that_is_not_there(name):
    assert listed(name)
    for path in listed(name):
        assert (ROOT / path).exists(), f"the tree in {holder(name)} names {path}"


def test_the_tree_names_every_module():
    packages = [
        "worker", "worker/stages", "worker/kafka/cluster", "worker/kafka/consume",
        "worker/kafka/produce", "worker/model", "worker/redrive", "train",
    ]  # fmt: skip
    for package in packages:
        for module in (ROOT / package).glob("*.py"):
            name = module.relative_to(ROOT).as_posix()
            assert name in listed("tree") or module.name == "__init__.py", f"it lacks {name}"


def test_every_reason_of_the_wire_contract_is_explained():
    text = "".join(documents().values())
    rows = re.findall(r"^\| `([a-z0-9_]+)` \| [a-z]", text, re.MULTILINE)
    assert [row for row in rows if row in REASONS] == list(REASONS)


def test_every_request_that_brokers_may_lack_is_in_the_table_of_brokers():
    text = (ROOT / "worker/README.md").read_text()
    table = text.partition("| the brokers lack |")[2].partition("\n\n")[0]
    lacks = features.DISPENSABLE + features.OF_TRANSACTIONS + features.OF_STATIC_MEMBERS
    needs = [lack.need for lack in lacks]
    needs += [*features.TRANSACTIONS, *features.STATIC_MEMBER, *features.ZSTD]
    for need in needs:
        version = f" {need.version}" if need.version > 1 else ""
        assert f"{need.api.name}{version}" in table or need.api.name == "FindCoordinator"


def test_metrics_are_named_as_prometheus_wants_them():
    for name, kind, labels, text in metric_families():
        assert name.startswith("worker_")
        assert (kind == "counter") == name.endswith("_total")
        assert text.endswith(".")
        assert not set(labels) & {"key", "offset", "text", "message"}


def listed(name):
    """The paths in a tree."""
    found, folders = set(), []
    for line in current(name).splitlines():
        match = re.match(r"( *)(\S+) {2,}\S|( *)(\S+/)$", line)
        if not match:
            continue
        indent, entry = match[1] or match[3] or "", match[2] or match[4]
        folders = [*folders[: len(indent) // 2], entry]
        found.add("".join(folders))
    return found


def test_the_guaranteed_maxima_are_those_of_the_code():
    """The tests of `portion`, `intake`, `assemble`, `prefix`, `group`, `span_size` hold each."""
    text = (ROOT / "worker/README.md").read_text(encoding="utf-8")
    section = text.partition("### Guaranteed maxima")[2].partition("\n### ")[0]
    for stated in (
        f"and {HEADER_BYTES} for each header)",
        f"{FETCH_PARTITION_BYTES >> 20} MiB for each owned partition",
        f"{MOST_AT_ONCE:,} records; {UNPACK_SECONDS:g} s of unpacking",
        f"one turn of the poll loop | {DECODE_SECONDS:g} s, and one record",
        f"{TOKENIZE_AT_ONCE} texts and {TOKENIZE_BYTES >> 10} KiB of UTF-8",
        f"A turn of the poll loop has {POLL_DEADLINE:.0f} s",
        f"half of `batch.in_flight` records and {SPAN_BYTES >> 20} MiB of outputs",
        f"{DEADLINE:g} s from its begin to the answer to its commit, and {END_SECONDS:g} s more",
    ):
        assert stated in section, stated

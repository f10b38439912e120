"""How the suite is shared out among its processes, and what it says before pytest's summary."""

import functools
import gc
import itertools
import json
import re
import socket
import subprocess
import sys
import warnings
from types import SimpleNamespace

import pytest
from kafka.net.inet import create_connection
from kafka.net.selector import NetworkSelector, Task

from tests import conftest
from tests.support.lazy import Lazy
from tests.support.together import HEAVY, TOGETHER, Together
from tests.support.worker_process import clean_environment
from tests.tools import programs


def item(*marks, module="tests.unit.test_thing", numbers=itertools.count()):  # noqa: B008
    def closest(name):
        return next((mark for mark in marks if mark == name), None)

    return SimpleNamespace(
        nodeid=f"tests/unit/test_thing.py::test_{next(numbers)}",
        module=SimpleNamespace(__name__=module),
        get_closest_marker=closest,
        iter_markers=lambda: [SimpleNamespace(name=mark) for mark in marks],
    )


@pytest.mark.parametrize("several", [False, True])
def test_the_long_ones_come_first_and_the_lone_ones_last(monkeypatch, several):
    monkeypatch.setattr(conftest, "_SEVERAL", several)
    marked = [("alone", "slow"), (), ("kafka",), ("heavy",), ("slow", "kafka")]
    ordered = sorted((item(*marks) for marks in marked * 20), key=conftest._turn)
    names = [tuple(mark.name for mark in each.iter_markers()) for each in ordered]
    long, rest = names[:40], names[40:]
    assert rest == [("heavy",)] * 20 + [()] * 20 + [("alone", "slow")] * 20
    assert sorted(long) == [("kafka",)] * 20 + [("slow", "kafka")] * 20
    assert (long == [("kafka",), ("slow", "kafka")] * 20) is not several


def test_tests_that_share_what_is_costly_stay_in_one_process():
    """Every file that is heavy as a whole is in the group of those, and none without such tests."""

    def files(pattern):
        return {
            str(file.relative_to(conftest.ROOT))
            for file in conftest.ROOT.glob("tests/**/test_*.py")
            if re.search(pattern, file.read_text(encoding="utf-8"), re.MULTILINE)
        }

    group = {file for file, name in TOGETHER.items() if name == HEAVY}
    assert files(r"^pytestmark = .*\bheavy\b") <= group <= files(r"\bpytest\.mark\.heavy\b")
    assert all((conftest.ROOT / file).is_file() for file in TOGETHER)
    split = functools.partial(Together._split_scope, None)
    assert split("tests/unit/train/test_metrics.py::test_a[x]") == HEAVY
    assert (
        split("tests/unit/test_batch.py::test_a[x::y]") == "tests/unit/test_batch.py::test_a[x::y]"
    )


def test_the_client_leaves_its_socket_when_it_is_closed_while_it_connects():
    """The warning that conftest ignores is of kafka-python: once it is mended there, so is this."""
    listener = socket.create_server(("127.0.0.1", 0))
    address = listener.getsockname()
    selector = NetworkSelector()
    connecting = Task(create_connection(selector, *address))
    with listener, warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        selector.call_soon(connecting)
        selector._poll_once()
        selector.cancel(connecting)
        del connecting
        gc.collect()
    selector.close()
    told = [str(each.message) for each in seen if each.category is ResourceWarning]
    leaked = [line for line in told if f"raddr={address}" in line]  # other tests may leave theirs
    pattern = conftest._SOCKET_OF_THE_CLIENT
    assert len(leaked) == 1
    as_of_a_broker = re.sub(r"(raddr=.* )\d+", r"\g<1>19092", leaked[0])
    assert re.match(pattern, as_of_a_broker)
    assert not re.match(pattern, re.sub(r"(raddr=.* )\d+", r"\g<1>40000", leaked[0]))


def test_lone_tests_that_follow_each_other_leave_nobody_in_between_them():
    class Room:
        def __init__(self):
            self.seen = []

        def enter(self, *, alone):
            self.seen.append("alone" if alone else "in")

        def leave(self):
            self.seen.append("out")

    room, ran = Room(), []
    config = SimpleNamespace(stash={conftest._ROOM: room})
    items = [item(*marks) for marks in [(), ("alone",), ("alone",), (), ("alone",)]]
    for number, each in enumerate(items):
        each.config = config
        following = [*items, None][number + 1]
        protocol = conftest.pytest_runtest_protocol(each, following)
        next(protocol)
        with pytest.raises(StopIteration) as end:
            protocol.send(number)
        ran.append(end.value.value)
    assert ran == [0, 1, 2, 3, 4]
    assert room.seen == ["in", "out", "alone", "alone", "out", "in", "out", "alone", "out"]


def test_the_stand_in_for_a_module_is_not_patched_in_its_place():
    """It was: the test passed only where the module already was as it should have been made."""
    stand_in = Lazy("json")
    with pytest.raises(AttributeError, match=r"monkeypatch.setattr\('json.dumps'"):
        stand_in.dumps = None
    assert stand_in.dumps is json.dumps


COLLECT = """
import sys, pytest
class Look:
    def pytest_collection_finish(self, session):
        heavy = {"torch", "transformers", "sklearn", "datasets"} & set(sys.modules)
        print("collected", len(session.items), "with", sorted(heavy))
sys.exit(pytest.main(["--collect-only", "-q", "-p", "no:cacheprovider", "tests"], plugins=[Look()]))
"""


@pytest.mark.slow
def test_no_library_of_seconds_is_imported_before_a_test_uses_it():
    done = subprocess.run(
        [sys.executable, "-c", COLLECT], cwd=conftest.ROOT, env=clean_environment(),
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("collected"))
    assert line.endswith("with []")
    assert int(line.split()[1]) > 1_000


@pytest.fixture
def told(monkeypatch):
    """What is written before the summary of a run with these reports."""

    def of(*, rerun=(), skipped=(), missing=None, coverage=None):
        monkeypatch.setattr(programs, "missing", lambda: missing or {})
        lines = []
        plugin = SimpleNamespace(cov_total=coverage)
        reporter = SimpleNamespace(
            stats={"rerun": list(rerun), "skipped": list(skipped)},
            write_line=lines.append,
            config=SimpleNamespace(pluginmanager=SimpleNamespace(getplugin=lambda _: plugin)),
        )
        conftest.pytest_terminal_summary(reporter)
        return lines

    return of


def test_a_test_that_was_run_twice_is_named_with_its_reason(told):
    crash = SimpleNamespace(message="AssertionError: it waits: not within 30 s\nmore")
    report = SimpleNamespace(nodeid="a::b", longrepr=SimpleNamespace(reprcrash=crash))
    assert told(rerun=[report]) == ["run twice: a::b: AssertionError: it waits: not within 30 s"]


def test_what_did_not_run_for_want_of_a_program_is_counted_with_the_way_to_get_it(told):
    skipped = [SimpleNamespace(longrepr=("f", 1, f"Skipped: {programs.LACKING}helm"))] * 3
    assert told(skipped=skipped, missing={"helm": "go: no network", "promtool": "?"}) == [
        "3 tests not run: there is no helm (go: no network). Get it with: make tools"
    ]


def test_coverage_is_one_line_and_nothing_is_said_where_nothing_is_to_be_said(told):
    assert told(coverage=87.25) == ["coverage of lines and branches: 87.2 %"]
    assert told() == []

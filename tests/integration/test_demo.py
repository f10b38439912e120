"""The real demo, as `make demo` runs it, with a checkpoint of seconds in place of its own."""

import contextlib
import signal
import subprocess
import sys

import psutil
import pytest

from tests.support import models
from tests.support.kafka_helpers import admin, wait_until
from tests.support.worker_process import clean_environment

pytestmark = [pytest.mark.kafka, pytest.mark.slow]
pytest.importorskip("rich")

SECONDS = 180


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return models.tiny_models(tmp_path_factory) / "untrained"


class Demo:
    """A demo in a directory of its own; ended, with all that it started, after the test."""

    def __init__(self, directory, *options):
        self.directory = directory
        # A user's own settings, which are not for the demo's worker.
        (directory / ".env").write_text("WORKER_KAFKA__BOOTSTRAP_SERVERS=nowhere:1\n")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "worker", "demo", *map(str, options)],
            env=clean_environment(WORKER_INPUT__TOPIC="of-the-user", TMPDIR=str(directory)),
            cwd=directory, text=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        self.output = ""

    def read_until(self, *words):
        """Reads on until a line has all of the words."""
        for line in self.process.stdout:
            self.output += line
            if all(word in line for word in words):
                return
        raise AssertionError(f"no line with {words}:\n{self.output}")

    def children(self):
        return psutil.Process(self.process.pid).children(recursive=True)

    def ended(self):
        """The exit code, once the output is closed too."""
        self.output += self.process.stdout.read()
        return self.process.wait(SECONDS)

    def figure(self, name):
        line = next(each for each in self.output.splitlines() if each.strip().startswith(name))
        return line.strip().removeprefix(name).split()[0]


@pytest.fixture
def demo(tmp_path):
    started = []

    def start(*options):
        started.append(Demo(tmp_path, *options))
        return started[-1]

    yield start
    for each in started:
        with each.process.stdout:
            with contextlib.suppress(psutil.NoSuchProcess):
                for process in [*each.children(), psutil.Process(each.process.pid)]:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        process.kill()
            each.process.wait()
            print(each.output)


@pytest.fixture
def demo_topics(kafka):
    """The topics that demos have made since the test began; what is left of them goes after it."""

    def named():
        with admin(kafka) as client:
            return {name for name in client.list_topics() if name.startswith("emotion-demo-")}

    before = named()
    yield lambda: named() - before
    if left := named() - before:
        with admin(kafka) as client:
            client.delete_topics(sorted(left), raise_errors=False)


def alive(processes):
    return [
        each for each in processes if each.is_running() and each.status() != psutil.STATUS_ZOMBIE
    ]


@pytest.fixture
def _broker(kafka):
    """Where the embedded broker cannot run, these are skipped or fail, as all that need it."""


@pytest.mark.usefixtures("_broker")
def test_every_message_gets_its_output_and_nothing_is_left(demo, checkpoint, tmp_path):
    run = demo("--messages", 300, "--rate", 200, "--checkpoint", checkpoint)
    run.read_until("Streaming")
    children = run.children()
    assert run.ended() == 0, run.output
    assert run.figure("messages in") == "300"
    assert run.figure("labelled") == "298"
    assert run.figure("dead-lettered") == "2"
    assert run.figure("lost") == "0"
    assert run.figure("doubled") == "0"
    assert "of 180 held-out sentences" in run.output
    assert "Traceback" not in run.output
    assert len(children) >= 3  # the worker, Java and their keepers
    assert not alive(children)
    assert not list(tmp_path.glob("emotion-kafka-*"))


@pytest.mark.usefixtures("_broker")
def test_ctrl_c_in_the_middle_ends_everything_in_order(demo, checkpoint, tmp_path):
    run = demo("--messages", 20_000, "--rate", 100, "--checkpoint", checkpoint)
    run.read_until("sent", "labelled")
    children = run.children()
    run.process.send_signal(signal.SIGINT)
    assert run.ended() == 130, run.output
    assert run.output.count("interrupted") == 1
    assert "Traceback" not in run.output
    assert not alive(children)
    assert not list(tmp_path.glob("emotion-kafka-*"))
    assert '"drained"' in (tmp_path / ".demo" / "worker.log").read_text()


def test_a_second_ctrl_c_waits_for_no_worker_that_hangs(demo, checkpoint, kafka, demo_topics):
    run = demo("--forever", "--checkpoint", checkpoint, "--bootstrap-servers", kafka)
    run.read_until("sent", "labelled")
    children = run.children()
    (hung,) = (each for each in children if "-P" in each.cmdline()[:2])
    hung.suspend()

    def interrupted():
        run.process.send_signal(signal.SIGINT)
        return run.process.poll() is not None

    wait_until(interrupted, message="the end", every=0.1)
    assert run.ended() == 130, run.output
    assert "killed at once" in run.output
    assert all(name in run.output for name in demo_topics())
    wait_until(lambda: not alive(children), message=f"the end of {children}")


@pytest.mark.usefixtures("_broker")
def test_a_demo_that_is_killed_takes_everything_with_it(demo, checkpoint, tmp_path):
    run = demo("--messages", 20_000, "--checkpoint", checkpoint)
    run.read_until("sent")
    children = run.children()
    run.process.kill()
    run.process.wait()
    wait_until(lambda: not alive(children), message=f"the end of {children}")
    wait_until(lambda: not list(tmp_path.glob("emotion-kafka-*")), message="the broker's folder")


def test_forever_ends_with_a_summary_and_leaves_no_topic_on_a_cluster_of_ones_own(
    demo, checkpoint, kafka, demo_topics
):
    run = demo("--forever", "--messages", 50, "--rate", 300, "--checkpoint", checkpoint,
               "--bootstrap-servers", kafka)  # fmt: skip
    run.read_until("sent")
    assert len(demo_topics()) == 3
    run.process.send_signal(signal.SIGINT)
    assert run.ended() == 0, run.output
    assert run.figure("lost") == "0"
    wait_until(lambda: not demo_topics(), message="deletion of the topics")


def test_a_cluster_that_does_not_answer_is_one_line(demo, checkpoint):
    run = demo("--checkpoint", checkpoint, "--bootstrap-servers", "127.0.0.1:9")
    assert run.ended() == 1
    assert run.output.count("no broker answers at 127.0.0.1:9") == 1
    assert "Traceback" not in run.output


def test_two_demos_in_one_directory_are_refused(demo, checkpoint, tmp_path):
    import fcntl

    (tmp_path / ".demo").mkdir()
    with (tmp_path / ".demo" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        run = demo("--checkpoint", checkpoint)
        assert run.ended() == 2
    assert "another demo runs in this directory" in run.output


def test_unknown_options_and_help(demo):
    run = demo("--nope")
    assert run.ended() == 2
    assert run.output.splitlines()[0].startswith("emotion-worker: --nope: there is no such option")
    assert len(run.output.splitlines()) == 1
    shown = demo("--help")
    assert shown.ended() == 0
    assert "--bootstrap-servers" in shown.output

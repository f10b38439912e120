"""The real demo, as `make demo` runs it, with a checkpoint of seconds in place of its own."""

import contextlib
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys

import psutil
import pytest

from tests.support.kafka_helpers import admin, create_topic, wait_until
from tests.support.worker_process import clean_environment

pytestmark = [pytest.mark.kafka, pytest.mark.slow]
pytest.importorskip("rich")

SECONDS = 180


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


class Terminal:
    """A demo on a terminal of its own, which it controls: what is typed there reaches all."""

    def __init__(self, directory, *options):
        self.output = ""
        self.pid, self._terminal = pty.fork()
        if self.pid == 0:
            environment = clean_environment(TMPDIR=str(directory), TERM="xterm")
            os.chdir(directory)
            os.execve(
                sys.executable,
                [sys.executable, "-m", "worker", "demo", *map(str, options)],
                environment,
            )

    def read_until(self, words):
        """Reads on until the words were written, wherever on the screen."""
        while words not in self.output:
            assert self._read(), f"no {words!r}:\n{self.output[-3_000:]}"

    def type(self, text):
        os.write(self._terminal, text)

    def children(self):
        return psutil.Process(self.pid).children(recursive=True)

    def ended(self):
        """The exit code, once everything that it wrote is read."""
        while self._read():
            pass
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def last_screen(self):
        """What was written after the live view, without colours."""
        text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.output.rpartition("\x1b[?1049l")[2])
        return text.replace("\r", "")

    def _read(self):
        if not select.select([self._terminal], [], [], SECONDS)[0]:
            raise AssertionError(f"it writes nothing:\n{self.output[-3_000:]}")
        try:
            data = os.read(self._terminal, 65_536)
        except OSError:  # Linux's word for the end
            data = b""
        self.output += data.decode(errors="replace")
        return data

    def close(self):
        os.close(self._terminal)


@pytest.fixture
def terminal(tmp_path):
    started = []

    def start(*options):
        started.append(Terminal(tmp_path, *options))
        return started[-1]

    yield start
    for each in started:
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in [*each.children(), psutil.Process(each.pid)]:
                process.kill()
        with contextlib.suppress(ChildProcessError):  # it was waited for
            os.waitpid(each.pid, 0)
        each.close()


def ports(processes):
    """Those that the processes listen on."""
    return {
        connection.laddr.port
        for process in processes
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    }


def is_open(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


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
def test_every_message_gets_its_output_and_nothing_is_left(demo, untrained, tmp_path):
    run = demo("--messages", 300, "--rate", 200, "--checkpoint", untrained)
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
    assert {path.name for path in tmp_path.iterdir()} == {".demo", ".env"}


@pytest.mark.usefixtures("_broker")
def test_the_worker_is_killed_and_a_successor_loses_and_doubles_nothing(demo, untrained, tmp_path):
    run = demo("--messages", 600, "--checkpoint", untrained)
    run.read_until("the worker is killed with -9")
    children = run.children()
    assert run.ended() == 0, run.output
    assert "Traceback" not in run.output
    assert run.figure("messages in") == "600"
    assert run.figure("labelled") == "596"
    assert run.figure("dead-lettered") == "4"
    assert run.figure("lost") == "0"
    assert run.figure("doubled") == "0"
    told = next(line for line in run.output.splitlines() if line.startswith("  worker killed"))
    assert re.search(r"labelled after \d+\.\d s and had caught up after \d+", told)
    table = {
        line.split()[0]: line.split()[1:] for line in run.output.splitlines() if line[:2] == "  "
    }
    named = ["measure", "steady", "burst", "recovery", "kill"]
    assert sum(int(table[name][0].replace(",", "")) for name in named) == 600
    assert float(table["burst"][1].replace(",", "")) > 2 * float(
        table["steady"][1].replace(",", "")
    )
    first, second = (
        (tmp_path / ".demo" / name).read_text() for name in ("worker.log", "worker-2.log")
    )
    assert '"drained"' not in first
    assert '"drained"' in second
    assert not alive(children)


@pytest.mark.usefixtures("_broker")
@pytest.mark.parametrize(
    ("moment", "own_checkpoint"),
    [
        ("Starting Apache Kafka", True),
        ("Training MiniLM", False),
        ("Starting the worker", True),
        ("measuring what", True),
    ],
)
def test_ctrl_c_on_a_terminal_leaves_nothing_but_its_folder(
    terminal, untrained, tmp_path, moment, own_checkpoint
):
    run = terminal(*(["--checkpoint", untrained] if own_checkpoint else []))
    run.read_until(moment)
    children = run.children()
    listening = ports(children)
    run.type(b"\x03")
    assert run.ended() == 130, run.output
    said = run.last_screen()
    assert "Summary so far" in said
    assert "emotion-worker demo" in said.partition("Next")[2]
    assert "it is no fault" in said
    assert said.count("interrupted;") == 1
    assert "Traceback" not in run.output
    wait_until(lambda: not alive(children), message=f"the end of {children}")
    assert not [port for port in listening if is_open(port)]
    assert {path.name for path in tmp_path.iterdir()} == {".demo"}
    assert not list(tmp_path.glob(".demo/.checkpoint.partial-*"))


@pytest.mark.parametrize("moment", ["successor starting", "Draining the worker"])
def test_ctrl_c_late_on_a_terminal_still_sums_up_what_there_was(
    terminal, untrained, kafka, demo_topics, *, tmp_path, moment
):
    run = terminal("--messages", 400, "--rate", 100, "--kill", "--checkpoint", untrained,
                   "--bootstrap-servers", kafka)  # fmt: skip
    run.read_until(moment)
    children = run.children()
    run.type(b"\x03")
    assert run.ended() == 130, run.output
    said = run.last_screen()
    sent = dict(re.findall(r"^  (steady|kill) +(\d+) ", said, re.MULTILINE))
    assert int(sent["steady"]) + int(sent["kill"]) == int(re.search(r"messages in +(\d+)", said)[1])
    assert re.search(r"doubled +0 ", said)
    assert "once, with -9, after" in said
    assert "it is no fault" in said
    assert "Traceback" not in run.output
    wait_until(lambda: not alive(children), message=f"the end of {children}")
    assert {path.name for path in tmp_path.iterdir()} == {".demo"}
    wait_until(lambda: not demo_topics(), message="deletion of the topics")


@pytest.mark.usefixtures("_broker")
@pytest.mark.parametrize(
    ("dies", "said"),
    [
        ("java", "Apache Kafka ended in the middle of the stream"),
        ("python", "the worker ended with code 137 in the middle of the stream"),
    ],
)
def test_what_ends_by_itself_in_the_middle_is_one_line_and_leaves_nothing(
    demo, untrained, tmp_path, dies, said
):
    run = demo("--messages", 20_000, "--rate", 100, "--checkpoint", untrained)
    run.read_until("sent", "labelled")
    children = run.children()
    (victim,) = (
        each for each in children
        if dies in each.name() and "-S" not in each.cmdline()  # which marks the keepers
    )  # fmt: skip
    victim.kill()
    assert run.ended() == 1, run.output
    assert run.output.count(said) == 1
    assert run.output.splitlines()[-1].startswith(f"emotion-worker: {said}")
    assert "Traceback" not in run.output
    assert not alive(children)
    assert not list(tmp_path.glob("emotion-kafka-*"))


SENDER = """
import itertools, sys, time
from kafka import KafkaProducer
from worker.demo.sentences import Message
from worker.demo import sender as module
from worker.demo.sender import Pace, Sender
module.CLOSE_SECONDS = 3_000  # which to abandon does not wait for
producer = KafkaProducer(bootstrap_servers=sys.argv[1], acks="all", enable_idempotence=True)
message = Message(key=b"k", value=b"v", headers=())
sender = Sender(
    producer=producer, topic="in", messages=itertools.repeat(message), settled=lambda: 0
)
sender.take(Pace(phase="burst", rate=None, until=None, room=lambda: 1_000_000))
sender.start()
while sender.sent < 100:
    time.sleep(0.01)
print("sends", flush=True)
sys.stdin.readline()
more = sender.sent + 1_000
while sender.sent < more:
    time.sleep(0.01)
sender.abandon()
print("sent", sender.sent)
"""


def test_a_sender_whose_broker_is_gone_ends_at_once_and_leaves_nothing_for_the_programs_end(
    own_kafka,
):
    """The client closes a forgotten producer when the program ends, and prints a traceback."""
    cluster = own_kafka()
    create_topic(cluster.bootstrap_servers, "in", 1)
    process = subprocess.Popen(
        [sys.executable, "-c", SENDER, cluster.bootstrap_servers], env=clean_environment(),
        text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout.readline() == "sends\n"
    cluster.suspend()  # requests are on their way, and more is sent
    out, err = process.communicate("go\n", timeout=SECONDS)
    assert (process.returncode, err) == (0, "")
    assert int(out.split()[1]) > 100


@pytest.mark.usefixtures("_broker")
def test_ctrl_c_in_the_middle_ends_everything_in_order(demo, untrained, tmp_path):
    run = demo("--messages", 20_000, "--rate", 100, "--checkpoint", untrained)
    run.read_until("sent", "labelled")
    children = run.children()
    run.process.send_signal(signal.SIGINT)
    assert run.ended() == 130, run.output
    assert run.output.count("interrupted") == 1
    assert "Traceback" not in run.output
    assert not alive(children)
    assert not list(tmp_path.glob("emotion-kafka-*"))
    assert '"drained"' in (tmp_path / ".demo" / "worker.log").read_text()


def test_a_second_ctrl_c_waits_for_no_worker_that_hangs(demo, untrained, kafka, demo_topics):
    run = demo("--forever", "--checkpoint", untrained, "--bootstrap-servers", kafka)
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
def test_a_demo_that_is_killed_takes_everything_with_it(demo, untrained, tmp_path):
    run = demo("--messages", 20_000, "--checkpoint", untrained)
    run.read_until("sent")
    children = run.children()
    run.process.kill()
    run.process.wait()
    wait_until(lambda: not alive(children), message=f"the end of {children}")
    wait_until(lambda: not list(tmp_path.glob("emotion-kafka-*")), message="the broker's folder")


def test_forever_ends_with_a_summary_and_leaves_no_topic_on_a_cluster_of_ones_own(
    demo, untrained, kafka, demo_topics
):
    run = demo("--forever", "--messages", 50, "--rate", 300, "--checkpoint", untrained,
               "--bootstrap-servers", kafka)  # fmt: skip
    run.read_until("sent")
    assert len(demo_topics()) == 3
    run.process.send_signal(signal.SIGINT)
    assert run.ended() == 0, run.output
    assert run.figure("lost") == "0"
    wait_until(lambda: not demo_topics(), message="deletion of the topics")


def test_a_cluster_that_does_not_answer_is_one_line(demo, untrained):
    run = demo("--checkpoint", untrained, "--bootstrap-servers", "127.0.0.1:9")
    assert run.ended() == 1
    assert run.output.count("no broker answers at 127.0.0.1:9") == 1
    assert "Traceback" not in run.output


def test_two_demos_in_one_directory_are_refused(demo, untrained, tmp_path):
    import fcntl

    (tmp_path / ".demo").mkdir()
    with (tmp_path / ".demo" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        run = demo("--checkpoint", untrained)
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

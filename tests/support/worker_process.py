"""The worker as its own process, as a pod runs it: started, watched, stopped, killed."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import psutil
from prometheus_client.parser import text_string_to_metric_families

from tests.support.kafka_helpers import wait_until
from worker.signals import ECHO_SECONDS

ROOT = Path(__file__).resolve().parents[2]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def clean_environment(**variables):
    """This process's environment without any WORKER_ variable but the given ones."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("WORKER_", "TRAIN_"))}
    kept["PYTHONPATH"] = str(ROOT)
    return {**kept, **variables}


def no_echo():
    """Between two signals: sooner the second one is taken for the first, which a busy process
    may have noticed late."""
    time.sleep(4 * ECHO_SECONDS)


class WorkerProcess:
    """A worker: with ``checkpoint`` the real command, without it the stub model's program.

    ``stub`` are arguments of that model: what it does wrong. ``root`` is the checkout it runs from.
    """

    def __init__(
        self,
        *,
        bootstrap,
        input_topic,
        output_topic,
        dlq_topic,
        directory,
        group="workers",
        checkpoint=None,
        seconds_per_batch=0.0,
        stub=None,
        root=ROOT,
        **settings,
    ):
        self.port, self.root = free_port(), root
        self.log_path = Path(directory) / f"worker-{self.port}.log"
        names = {f"WORKER_{name.upper()}": str(value) for name, value in settings.items()}
        self.environment = clean_environment(
            **{
                "WORKER_KAFKA__BOOTSTRAP_SERVERS": bootstrap,
                "WORKER_KAFKA__GROUP_ID": group,
                "WORKER_INPUT__TOPIC": input_topic,
                "WORKER_OUTPUT__TOPIC": output_topic,
                "WORKER_DLQ__TOPIC": dlq_topic,
                "WORKER_HTTP__HOST": "127.0.0.1",
                "WORKER_HTTP__PORT": str(self.port),
                "PYTHONPATH": str(root),
                "STUB": json.dumps(stub or {}),
                **names,
            }
        )
        if checkpoint is None:
            self.command = [sys.executable, "-m", "tests.support.fakes", str(seconds_per_batch)]
        else:
            self.command = [sys.executable, "-m", "worker", "run"]
            self.environment["WORKER_MODEL__CHECKPOINT"] = str(checkpoint)
        self.process = None

    def start(self, *, ready=True):
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, env=self.environment, cwd=self.root, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log,
            )  # fmt: skip
        if ready:
            self.wait_ready()
        return self

    def wait_ready(self, timeout=120.0):
        def ready():
            code = self.process.poll()
            if code is not None:
                raise AssertionError(f"the worker ended with {code}:\n{self.log()}")
            return self.get("/readyz")[0] == 200

        wait_until(ready, timeout, "the worker is ready")
        return self

    def get(self, path):
        """Status and body; status 0 where nothing answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def metric(self, name, **labels):
        """A sample's value; the sum over all that carry these labels."""
        status, body = self.get("/metrics")
        assert status == 200, f"no metrics: {status}"
        # The parser takes milliseconds for all of them, and a wait asks 20 times a second.
        body = "".join(line for line in body.splitlines(keepends=True) if line.startswith(name))
        return sum(
            sample.value
            for family in text_string_to_metric_families(body)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def processed(self):
        return int(self.metric("worker_records_processed_total"))

    def wait_processed(self, count, timeout=120.0):
        wait_until(lambda: self.alive() and self.processed() >= count, timeout,
                   f"{count} records processed", every=0.1)  # fmt: skip

    def resident_bytes(self):
        """Of all its processes together."""
        every = [psutil.Process(self.process.pid), *self.children()]
        return sum(process.memory_info().rss for process in every)

    def wait_shared(self, partitions, timeout=60.0):
        """Each of its processes has its share of the partitions."""
        several = int(self.environment.get("WORKER_PROCESSES", 1))
        each = [{"process": str(n)} for n in range(1, several + 1)] if several > 1 else [{}]
        share = partitions // several
        wait_until(
            lambda: all(self.metric("worker_assigned_partitions", **of) == share for of in each),
            timeout,
            "each process has its share",
        )

    def children(self):
        """Those that it has started, with `processes` above 1, in the order of their start."""
        return sorted(psutil.Process(self.process.pid).children(), key=lambda of: of.pid)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self, timeout=40.0, number=signal.SIGTERM):
        """SIGTERM; the exit code."""
        self.process.send_signal(number)
        return self.wait(timeout)

    def wait(self, timeout=60.0):
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the worker does not end:\n{self.log()}") from None

    def log(self):
        return self.log_path.read_text(errors="replace")[-12_000:]

    def events(self):
        """The log's lines as values; those that are no JSON as {'event': line}."""
        lines = self.log_path.read_text(errors="replace").splitlines()
        return [json.loads(line) if line[:1] == "{" else {"event": line} for line in lines]

    def alive(self):
        if self.process.poll() is not None:
            raise AssertionError(f"the worker ended with {self.process.returncode}:\n{self.log()}")
        return True

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process is not None and self.process.poll() is None:
            with contextlib.suppress(psutil.NoSuchProcess):  # it is just ending
                for child in self.children():
                    child.kill()
            self.kill()

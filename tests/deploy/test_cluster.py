"""The script for a real cluster, as far as it goes without one."""

import re
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest
import yaml

from tests.deploy.cluster.kube import is_ready, last_exit, restarts, selector
from tests.deploy.cluster.scenarios import HANG, STREAM, changes, disturb
from tests.deploy.cluster.traffic import Traffic
from tests.deploy.cluster.watch import relabel_configs, targets
from tests.deploy.cluster.world import World
from tests.deploy.prometheus import Prometheus
from tests.deploy.reading import CHART, ROOT
from tests.support.audit import Verdict
from tests.support.kafka_helpers import wait_until

RULES = CHART / "files" / "rules.yaml"
MONITOR = ROOT / "deploy" / "rendered" / "production-gpu" / "podmonitor.yaml"


@pytest.mark.tool("promtool")
def test_promtool_takes_what_is_made_of_a_pod_monitor(tmp_path):
    server = Prometheus(tmp_path, RULES, every=5, relabel=relabelings())
    done = subprocess.run(
        ["promtool", "check", "config", server.config],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_labels_that_the_rules_go_by_come_of_the_pod_monitor():
    made = {each.get("target_label") for each in relabelings()}
    assert {"job", "instance", "namespace", "pod", "release"} <= made
    kept = [each for each in relabelings() if each.get("action") == "keep"]
    assert {each["regex"] for each in kept} >= {"emotion-worker;true", "worker;true", "http"}


def test_a_pod_is_found_by_the_labels_of_the_pod_monitor_once_it_runs():
    labels = yaml.safe_load(MONITOR.read_text())["spec"]["selector"]["matchLabels"]
    container = {"name": "worker", "ports": [{"name": "http", "containerPort": 8000}]}
    pod = {
        "metadata": {"name": "w-0", "namespace": "ml", "labels": labels},
        "spec": {"containers": [container]},
        "status": {"phase": "Running", "podIP": "10.0.0.7"},
    }
    (found,) = targets(pod)
    assert found["targets"] == ["10.0.0.7:8000"]
    assert is_scraped(found["labels"])
    assert list(targets(pod | {"status": {"phase": "Pending"}})) == []
    # Its image is pulled, or its checkpoint fetched.
    (found,) = targets(pod | {"status": {"phase": "Pending", "podIP": "10.0.0.7"}})
    assert not is_scraped(found["labels"])


def test_the_selector_is_that_of_the_chart():
    labels = yaml.safe_load(MONITOR.read_text())["spec"]["selector"]["matchLabels"]
    release = labels["app.kubernetes.io/instance"]
    wanted = dict(pair.split("=") for pair in selector(release)[1].split(","))
    assert wanted.items() <= labels.items()


def test_a_pod_is_read_as_kubernetes_tells_it():
    ended = {"terminated": {"exitCode": 1}}
    status = {
        "conditions": [{"type": "Ready", "status": "False"}],
        "containerStatuses": [{"restartCount": 2, "lastState": ended}],
    }
    assert (is_ready({"status": status}), restarts({"status": status})) == (False, 2)
    assert last_exit({"status": status}) == 1
    assert not is_ready({"status": {}})
    assert changes([1, 1, 3, 3, 1]) == [1, 3, 1]


def test_a_disturbance_is_in_mid_stream_however_long_it_takes(tmp_path):
    world, traffic = quiet_world(tmp_path), Counted()

    def act():
        wait_until(lambda: traffic.sent > 2 * STREAM, 5, "messages flow on")

    disturb(world, "disrupt", traffic, "a slow node", act)
    assert (world.failed, world.passed) == ([], 2)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_disturbance_is_not_in_mid_stream_where_sending_has_failed(tmp_path):
    world, traffic = quiet_world(tmp_path), Counted(breaks=True)
    disturb(world, "disrupt", traffic, "no input", lambda: traffic.sender.join(5))
    assert [line.split(": ")[1] for line in world.failed] == ["in mid-stream"]


@pytest.mark.heavy
def test_what_makes_the_model_hang_finds_what_it_wraps():
    from worker.model import classifier

    compile(HANG, "sitecustomize.py", "exec")
    assert callable(classifier.TorchClassifier.launch)


def test_without_a_cluster_it_ends_with_one_line(tmp_path):
    command = [sys.executable, "-m", "tests.deploy.cluster", "--bootstrap-servers", "127.0.0.1:1"]
    done = subprocess.run(
        command, cwd=ROOT, env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (2, "kubectl is not on the PATH\n")
    done = subprocess.run(
        [*command, "no-such"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.endswith("no such scenario: no-such\n")


def relabelings():
    return relabel_configs(yaml.safe_load(MONITOR.read_text()), 8001)


def is_scraped(labels):
    for rule in relabelings():
        value = ";".join(labels[name] for name in rule.get("source_labels", []))
        matches = re.fullmatch(rule.get("regex", ".*"), value) is not None
        if rule.get("action") in ("keep", "drop") and matches != (rule["action"] == "keep"):
            return False
    return True


class Counted(Traffic):
    """Messages that are counted and go nowhere; `breaks`: the first lot is all that is sent."""

    def __init__(self, *, breaks=False):
        self.group, self.sent, self._breaks = "", 0, breaks

    def send(self, count, *, rate=None):
        self.sender = threading.current_thread()
        self.sent += count
        if self._breaks:
            raise AssertionError("the input itself")
        time.sleep(0)

    def lag(self):
        return 0

    def verdict(self):
        return Verdict(inputs=self.sent, labelled=self.sent)


def quiet_world(tmp_path):
    """Of two workers that are ready, whatever is done to them."""
    ready = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    return World(
        cluster=SimpleNamespace(pods=lambda _: [ready, ready]),
        directory=tmp_path,
        bootstrap="",
        broker=None,
        images={},
        pull_policy="",
        base_model="",
        base_folder=None,
        texts=[],
        lag=0,
        chart_before=None,
        extra={},
    )

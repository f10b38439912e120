"""What is watched, watched: a real Prometheus scrapes real workers through a minute of traffic.

A worker of two processes, a second of one that joins and leaves, a burst, bad records of every
kind. Then every expression of the dashboard finds data, every rule evaluates, no alert fires, and
every name in rules, dashboard and documents is one of the scrape's.

DRAW=deploy/grafana keeps the pictures that are drawn from it, the documents'.
"""

import json
import os
import re
import shutil
import time
import uuid
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.deploy import promql
from tests.deploy.board import expressions, filled, panels, rows
from tests.deploy.prometheus import Prometheus
from tests.deploy.test_rules import OF_THE_RELEASE, RULES, events, rules
from tests.deploy.traffic import Traffic
from tests.support import models, tiny
from tests.support.kafka_helpers import create_topic, wait_until
from tests.support.worker_process import WorkerProcess
from tests.tools.tables import current, documents

ROOT = Path(__file__).resolve().parents[2]
WITHOUT_DATA = {
    "GPU memory": "no GPU here",
    "Utilization of the GPU": "no GPU here",
    "Memory of the card": "no GPU here",
    "Clock held down": "no GPU here",
    "Temperature of the GPU": "no GPU here",
    "Power of the card": "no GPU here",
    "Firing alerts": "nothing is wrong here",
}
"""Panels that stay empty, and why."""
PARTITIONS = 6
LONG = "DRAW" in os.environ
"""Whether as much is seen as a picture of some minutes shows."""
SHARE = 2
"""Of a process, while there are three."""
BURST = 15_000
BACKLOG = 1_500
"""Records of it that must be seen waiting: several times what may be in flight."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.tool("prometheus"),
    pytest.mark.alone,  # what alerts see of latency and lag would be the other tests' doing
]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A tiny model that has learned its labels, knows their mix, and hardly ever abstains."""
    trained = models.tiny_models(tmp_path_factory) / "trained"
    copy = shutil.copytree(trained, tmp_path_factory.mktemp("abstaining") / "trained")
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["abstain"] = {"score": 0.3, "energy": 1_000.0}
    (copy / "manifest.json").write_text(json.dumps(manifest))
    return copy


@pytest.fixture(scope="module")
def observed(kafka, checkpoint, tmp_path_factory):
    directory = tmp_path_factory.mktemp("observed")
    number = uuid.uuid4().hex[:4]
    names = {
        "input_topic": f"tweets-{number}",
        "output_topic": f"emotions-{number}",
        "dlq_topic": f"tweets-{number}.dlq",
    }
    for role, name in names.items():
        small = {"max.message.bytes": "20000"} if role == "output_topic" else {}
        create_topic(kafka, name, partitions=PARTITIONS, config=small)
    workers = [
        WorkerProcess(
            bootstrap=kafka, group=names["input_topic"], directory=directory, checkpoint=checkpoint,
            model__threads=1, model__abstain="true", batch__max_records=16, processes=processes,
            **names,
        )
        for processes in (2, 1)
    ]  # fmt: skip
    prometheus = Prometheus(directory, RULES)
    try:
        with workers[0], workers[1]:
            yield through_a_minute(kafka, names["input_topic"], workers, prometheus)
    finally:
        prometheus.stop()


def through_a_minute(bootstrap, topic, workers, prometheus):
    first, second = workers
    prometheus.watch(**{"worker-0": first.port})
    prometheus.start()

    def lasts(condition, samples, *, since):
        """Waits until Prometheus has seen it so often since that time."""

        def seen():
            window = max(1, int(time.time() - since))
            return prometheus.value(f"sum(count_over_time(({condition})[{window}s:1s]))") or 0

        wait_until(lambda: seen() >= samples, 120, condition, every=0.2)

    first.start()
    begin = time.time()
    with Traffic(bootstrap, topic, rate=150) as traffic:
        second.start(ready=False)
        prometheus.watch(**{"worker-0": first.port, "worker-1": second.port})
        lasts(f'worker_assigned_partitions{{instance="worker-1"}} == {SHARE}', 12, since=begin)

        def lag():
            return prometheus.value("sum(worker_consumer_lag_records)") or 0

        def behind():
            seen = prometheus.value("max_over_time(sum(worker_consumer_lag_records)[5s:1s])") or 0
            if seen < 100:
                traffic.burst(BURST)  # once more where it was gone before it was seen
            return seen > BACKLOG

        wait_until(behind, 60, "a backlog", every=2)
        wait_until(lambda: lag() < 100, 60, "no backlog")
        assert second.stop() == 0
        left = time.time()
        prometheus.watch(**{"worker-0": first.port})
        lasts(
            f'sum(worker_assigned_partitions{{instance="worker-0"}}) == {PARTITIONS}',
            20 if LONG else 10,
            since=left,
        )
        lasts(
            'sum(rate(worker_records_consumed_total{instance="worker-0"}[5s])) > 0',
            50 if LONG else 25,
            since=begin,
        )
    wait_until(lambda: lag() == 0, 60, "no lag")
    end = time.time()
    status, scrape = first.get("/metrics")
    assert status == 200
    return SimpleNamespace(
        prometheus=prometheus, begin=begin, end=end, scrape=scrape, sent=traffic.sent,
        seconds=int(end - begin),
    )  # fmt: skip


def test_no_alert_fires_or_waits_to(observed):
    fired = observed.prometheus.over_time(
        'ALERTS{alertstate="firing"}', observed.begin, time.time()
    )
    assert [labels["alertname"] for labels, _ in fired] == []

    def active():
        return [labels["alertname"] for labels, _ in observed.prometheus.now("ALERTS")]

    # While a partition moves some of them wait: the group has one partition less for a moment.
    wait_until(lambda: active() == [], 30, "no alert waits to fire")


def test_every_rule_evaluates(observed):
    found = observed.prometheus.rules()
    assert len(found) == len(rules())
    assert [(rule["name"], rule["lastError"]) for rule in found if rule.get("lastError")] == []
    assert {rule["health"] for rule in found} == {"ok"}
    for rule in rules():
        if "record" in rule:
            assert observed.prometheus.over_time(rule["record"], observed.begin, observed.end)


@pytest.mark.parametrize("panel", panels(), ids=lambda panel: panel["title"])
def test_a_panel_has_data(observed, panel):
    for target in panel["targets"]:
        points = [point for _, points in asked(observed, target["expr"]) for point in points]
        assert bool(points) != (panel["title"] in WITHOUT_DATA), target["expr"]


def test_annotations_tell_when_model_and_program_came(observed):
    notes = expressions()[-2:]
    assert [name for name, _ in notes] == ["Model deployed", "Program deployed"]
    for name, expr in notes:
        assert asked(observed, expr), name


def test_a_worker_that_loads_its_model_has_heard_from_the_broker(
    kafka, topic, checkpoint, tmp_path
):
    """Else a large model would look like a broker that is away."""
    (tmp_path / "torch.py").write_text("import time\ntime.sleep(3_000)\n")
    names = {f"{role}_topic": topic(role) for role in ("input", "output", "dlq")}
    worker = WorkerProcess(
        bootstrap=kafka, group=names["input_topic"], directory=tmp_path, checkpoint=checkpoint,
        **names,
    )  # fmt: skip
    worker.environment["PYTHONPATH"] = f"{tmp_path}{os.pathsep}{ROOT}"
    with worker.start(ready=False):
        wait_until(lambda: worker.get("/metrics")[0] == 200, 60, "metrics")
        wait_until(lambda: worker.metric("worker_broker_reachable") == 1, 60, "the broker")
        lines = worker.get("/metrics")[1].splitlines()
        (model,) = [line for line in lines if line.startswith("worker_model_info")]
        assert "version=" not in model
        assert worker.get("/readyz")[0] == 503
        assert worker.stop() == 0


def test_panels_tell_what_happened(observed):
    def most(title):
        (panel,) = (panel for panel in panels() if panel["title"] == title)
        found = {}
        for target in panel["targets"]:
            for labels, points in asked(observed, target["expr"]):
                name = legend(target, labels)
                found[name] = max([v for _, v in points], default=0.0)
        return found

    assert most("Partitions by worker") == {"worker-0": PARTITIONS, "worker-1": SHARE}
    assert max(most("Lag").values()) > BACKLOG
    assert max(most("Age of the oldest record by partition").values()) > 100
    assert most("Expired records") == {"value": 0}
    assert set(most("Dead letters by reason")) > {"invalid_json", "output_too_large"}
    assert set(most("Mean score by label")) == set(tiny.LABELS)
    assert most("Workers by model").popitem()[1] == 2
    counted = "sum(max_over_time(worker_records_processed_total{}[10m]))".format
    # A worker that ends takes what it settled after its last scrape with it.
    settled = observed.prometheus.value(counted(""))
    assert 0.9 * observed.sent < settled <= observed.sent
    dead = observed.prometheus.value(counted('{outcome="dead_letter"}'))
    assert 0.01 < dead / settled < 0.04


def test_every_name_is_one_of_the_scrape_and_each_of_these_is_documented(observed):
    families = re.findall(r"^# TYPE (\S+) (\w+)$", observed.scrape, re.MULTILINE)
    ours = {name for name, _ in families if name.startswith("worker_")}
    ours -= {name for name in ours if name.endswith("_created")}  # the client's, of each counter
    assert ours == promql.known()
    asked_for = [rule["expr"] for rule in rules()] + [filled(expr) for _, expr in expressions()]
    named = set().union(*map(promql.metrics, asked_for))
    text = "".join(text for path, text in documents().items() if path != "CHANGELOG.md")
    named |= set(re.findall(r"`(worker_[a-z_]+)`", text)) - events()
    assert named - ours - observed.prometheus.metrics() - {"ALERTS"} - OF_THE_RELEASE == set()
    table = set(re.findall(r"^\| `(worker_\w+)` \|", current("metrics"), re.MULTILINE))
    assert table == ours


@pytest.mark.parametrize("row", rows())
def test_a_row_can_be_drawn(observed, row, tmp_path):
    from tests.tools.draw import draw

    def named(target):
        found = asked(observed, target["expr"])
        tabular = target["format"] == "table"
        return [(labels if tabular else legend(target, labels), points) for labels, points in found]

    directory = Path(os.environ.get("DRAW") or tmp_path)
    picture = draw(row, rows()[row], named, empty=WITHOUT_DATA, directory=directory)
    assert picture.stat().st_size < 150_000


def asked(observed, expr):
    """What Grafana would get for the time of the traffic, a point a second."""
    whole = filled(expr, interval="4s", span=f"{observed.seconds}s")
    return observed.prometheus.over_time(whole, observed.begin, observed.end)


def legend(target, labels):
    """A series' name, as Grafana makes it."""
    pattern = target["legendFormat"]
    if pattern == "__auto":
        return next(iter(labels.values()), "value")
    return re.sub(r"\{\{(\w+)\}\}", lambda found: labels.get(found[1], ""), pattern)

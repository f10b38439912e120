"""Two releases, as the chart makes their rules, and one of them goes: promtool sees who is missed.

What each rule does by itself is in rules/presence.yaml and rules/lag_without_progress.yaml.
"""

import subprocess

import pytest
import yaml

from tests.deploy.chart_objects import made, needs_helm, of_kind
from tests.deploy.chart_values import GROUP, KEDA, MINIMAL, merged

pytestmark = [needs_helm, pytest.mark.tool("promtool")]

OWNER = {"prometheusRule": {"enabled": True}}
SCRAPED = {"podMonitor": {"enabled": True}}
NONE = merged(KEDA, {"keda": {"minReplicas": 0}})
GROUPS = ["recording", "alerts", "presence"]
MISSING = "EmotionWorkerTargetDown"
WAITING = "EmotionWorkerLagWithoutProgress"


def missed(releases, series, *, directory, alert=MISSING, at="60m"):
    """The (namespace, release) for which an alert fires, and whether it does: promtool's verdict.

    Args:
        releases: (name, namespace, values) of each release whose rules are loaded.
        series: Samples by series, one a minute.
        directory: For the files.
        alert: Its name.
        at: Minute that is looked at.
    """
    files = []
    for name, namespace, values in releases:
        found = made(merged(MINIMAL, GROUP, SCRAPED, values), release=name, namespace=namespace)
        for number, rule in enumerate(of_kind(found, "PrometheusRule")):
            file = directory / f"{namespace}-{name}-{number}.yaml"
            file.write_text(yaml.safe_dump(rule["spec"]))
            files.append(file.name)
    test = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {"expr": f'ALERTS{{alertname="{alert}", alertstate="firing"}}', "eval_time": at}
        ],
    }
    order = ["emotion-worker.release", *(f"emotion-worker.{name}" for name in GROUPS)]
    case = {
        "rule_files": files, "evaluation_interval": "1m", "group_eval_order": order,
        "tests": [test],
    }  # fmt: skip
    (directory / "case.yaml").write_text(yaml.safe_dump(case))
    done = subprocess.run(
        ["promtool", "test", "rules", "case.yaml"],
        cwd=directory, capture_output=True, text=True, check=False,
    )  # fmt: skip
    told = done.stdout + done.stderr
    assert "got:" in told or done.returncode == 0, told
    firing = told.partition("got:")[2]
    return {
        (namespace, name)
        for name, namespace, _ in releases
        if f'namespace="{namespace}", release="{name}"' in firing
    }


def up(release, namespace, values):
    labels = f'namespace="{namespace}", release="{release}", instance="{release}-0"'
    return {f'up{{job="emotion-worker", {labels}}}': values}


STAYS, GOES = "1x90", "1x9 stale _x80"


@pytest.mark.parametrize("owner", [{}, NONE], ids=["one at least", "may have none"])
@pytest.mark.parametrize("namespaces", [("prod", "prod"), ("prod", "stage")])
def test_a_release_without_targets_is_missed_whoever_has_the_rules(owner, namespaces, tmp_path):
    first, second = namespaces
    releases = [("one", first, merged(OWNER, owner)), ("two", second, {})]
    for stays, goes in (("one", "two"), ("two", "one")):
        where = {"one": first, "two": second}
        series = up(stays, where[stays], STAYS) | up(goes, where[goes], GOES)
        found = missed(releases, series, directory=tmp_path)
        may_be_none = goes == "one" and owner
        assert found == (set() if may_be_none else {(where[goes], goes)})


def test_releases_of_one_name_in_two_namespaces_are_two(tmp_path):
    releases = [("tweets", "prod", OWNER), ("tweets", "stage", {})]
    series = up("tweets", "prod", STAYS) | up("tweets", "stage", GOES)
    assert missed(releases, series, directory=tmp_path) == {("stage", "tweets")}


def test_all_of_them_gone_are_all_missed(tmp_path):
    releases = [("one", "prod", OWNER), ("two", "prod", {}), ("three", "stage", NONE)]
    series = up("one", "prod", GOES) | up("two", "prod", GOES) | up("three", "stage", GOES)
    assert missed(releases, series, directory=tmp_path) == {("prod", "one"), ("prod", "two")}


def test_one_that_is_stopped_on_purpose_is_not_missed(tmp_path):
    releases = [("one", "prod", OWNER), ("two", "prod", {"replicaCount": 0})]
    series = up("one", "prod", STAYS) | up("two", "prod", GOES)
    assert missed(releases, series, directory=tmp_path) == set()


@pytest.mark.parametrize("source", ["exporter", "KEDA", "KEDA, relabelled"])
def test_lag_of_a_release_that_was_scaled_to_none_is_told_from_outside(source, tmp_path):
    releases = [("one", "prod", OWNER), ("two", "prod", NONE)]
    keda = 'scaledObject="two-emotion-worker", scaler="kafka"'
    series = {
        "exporter": (
            'kafka_consumergroup_lag{consumergroup="emotion-worker", topic="tweets", '
            'partition="0", namespace="kafka"}'
        ),
        "KEDA": f'keda_scaler_metrics_value{{namespace="prod", {keda}}}',
        "KEDA, relabelled": (
            f'keda_scaler_metrics_value{{namespace="keda", exported_namespace="prod", {keda}}}'
        ),
    }
    processed = (
        'worker_records_processed_total{job="emotion-worker", namespace="prod", release="one", '
        'instance="one-0", topic="tweets", outcome="labelled"}'
    )
    told = {series[source]: "0x30 5+5x60", processed: "0+100x90"} | up("one", "prod", STAYS)
    early, late = (
        missed(releases, told, directory=tmp_path, alert=WAITING, at=at) for at in ("40m", "60m")
    )
    assert (early, late) == (set(), {("prod", "two")})

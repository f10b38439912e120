"""Upgrades: the consumer group and the number of pods stay, whatever the default was.

helm asks a server of the test's own for what runs (api_server.py). `BEFORE` is the group that every
release had by default until 2026-11.
"""

import pytest

from tests.deploy.api_server import cluster
from tests.deploy.chart_objects import config, made, needs_helm, objects, of_kind, workload
from tests.deploy.chart_values import GROUP, KEDA, MINIMAL, merged
from tests.tools.chart_schema import NAME, helm

pytestmark = needs_helm

BEFORE = "emotion-worker"
NOBODY_KNOWS = "without a cluster to ask (helm template, Argo CD, --dry-run=client)"
ALL = merged(
    MINIMAL,
    KEDA,
    {
        "settings": {
            "delivery": {"guarantee": "exactly_once"},
            "kafka": {
                "security_protocol": "SASL_SSL",
                "sasl_mechanism": "SCRAM-SHA-512",
                "sasl_username": "u",
            },
        },
        "credentials": {"saslPassword": {"secretName": "u"}},
        "strimzi": {"cluster": "c", "user": {"enabled": True, "name": "u"}},
        "prometheusRule": {"enabled": True},
    },
)


def asked(values, *things, directory, release, namespace="default"):
    """What helm says for a release where these objects run: its output, or its refusal."""
    with cluster(*things, directory=directory, namespace=namespace) as kubeconfig:
        return helm(
            "template", release, ".", "--dry-run=server", "--skip-tests", "--namespace", namespace,
            "--kubeconfig", str(kubeconfig), values=values,
        )  # fmt: skip


def running(release, group, *, name=None, **more):
    """The settings of a release that runs in this group."""
    labels = {"app.kubernetes.io/name": NAME, "app.kubernetes.io/instance": release}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name or f"{release}-emotion-worker", "labels": labels | more},
        "data": {"WORKER_KAFKA__GROUP_ID": group},
    }


def group_of(things):
    return config(things)["WORKER_KAFKA__GROUP_ID"]


@pytest.mark.parametrize(
    ("release", "group"),
    [
        ("emotion-worker", "emotion-worker"),
        ("tweets", "tweets-emotion-worker"),
        ("my-emotion-worker", "my-emotion-worker"),
        ("r" * 53, "r" * 53 + "-emotion-worker"),
    ],
)
def test_a_new_release_has_a_group_of_its_own_name(release, group, tmp_path):
    done = asked(MINIMAL, directory=tmp_path, release=release)
    assert done.returncode == 0, done.stderr
    assert group_of(objects(done.stdout)) == group


def test_another_name_of_the_objects_is_no_other_group(tmp_path):
    values = merged(MINIMAL, {"fullnameOverride": "labels"})
    done = asked(values, directory=tmp_path, release="tweets")
    assert group_of(objects(done.stdout)) == "tweets-emotion-worker"


def test_two_releases_of_one_namespace_share_nothing_of_kafka(tmp_path):
    said = []
    for release in ("tweets", "reviews"):
        done = asked(ALL, directory=tmp_path, release=release)
        assert done.returncode == 0, done.stderr
        said.append(objects(done.stdout))
    one, two = map(group_of, said)
    assert one != two
    for things, group, release in zip(said, (one, two), ("tweets", "reviews"), strict=True):
        (scaled,) = of_kind(things, "ScaledObject")
        assert scaled["spec"]["triggers"][0]["metadata"]["consumerGroup"] == group
        (user,) = of_kind(things, "KafkaUser")
        rules = user["spec"]["authorization"]["acls"]
        named = {rule["resource"]["type"]: rule["resource"]["name"] for rule in rules}
        assert named["group"] == group
        assert named["transactionalId"] == f"{group}-{release}-emotion-worker-"
        assert f'consumergroup="{group}"' in str(of_kind(things, "PrometheusRule"))


@pytest.mark.parametrize(
    "settings",
    [
        running("tweets", BEFORE),
        running("tweets", BEFORE, name="tweets"),  # under fullnameOverride
        running("tweets", "labels-of-tweets"),  # given then, and not any more
    ],
)
def test_an_upgrade_into_another_group_is_refused_and_told_what_to_set(settings, tmp_path):
    runs = settings["data"]["WORKER_KAFKA__GROUP_ID"]
    done = asked(MINIMAL, settings, directory=tmp_path, release="tweets")
    assert done.returncode != 0
    (line,) = (each for each in done.stderr.splitlines() if each.startswith("settings.kafka."))
    assert f"this release runs in group {runs}; in tweets-emotion-worker it would label" in line
    assert f"Set it to {runs} " in line
    values = merged(MINIMAL, {"settings": {"kafka": {"group_id": runs}}})
    done = asked(values, settings, directory=tmp_path, release="tweets")
    assert done.returncode == 0, done.stderr
    assert group_of(objects(done.stdout)) == runs


@pytest.mark.parametrize(
    "others",
    [
        [running("tweets", "tweets-emotion-worker")],  # upgraded before
        [running("reviews", BEFORE)],
        [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "bare"}}],
        [],
    ],
)
def test_what_runs_of_others_refuses_nothing(others, tmp_path):
    done = asked(MINIMAL, *others, directory=tmp_path, release="tweets")
    assert done.returncode == 0, done.stderr
    assert group_of(objects(done.stdout)) == "tweets-emotion-worker"


def test_a_release_of_the_default_name_stays_where_it_is(tmp_path):
    done = asked(MINIMAL, running(NAME, BEFORE, name=NAME), directory=tmp_path, release=NAME)
    assert done.returncode == 0, done.stderr
    assert group_of(objects(done.stdout)) == BEFORE == group_of(made(MINIMAL))


def test_without_a_cluster_a_release_of_another_name_has_to_say_its_group():
    done = helm("template", "tweets", ".", values=MINIMAL)
    assert done.returncode != 0
    assert NOBODY_KNOWS in done.stderr
    assert "Set it: tweets-emotion-worker for a new release, emotion-worker for" in done.stderr
    assert group_of(made(merged(MINIMAL, GROUP), release="tweets")) == BEFORE


# ---- From replicaCount to KEDA ----------------------------------------------------------------


def workload_of(kind, replicas):
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": NAME},
        "spec": {"replicas": replicas},
    }


@pytest.mark.parametrize("guarantee", ["at_least_once", "exactly_once"])
@pytest.mark.parametrize("replicas", [0, 1, 4])
def test_keda_takes_over_as_many_pods_as_run(guarantee, replicas, tmp_path):
    values = merged(MINIMAL, KEDA, {"settings": {"delivery": {"guarantee": guarantee}}})
    kind = {"at_least_once": "Deployment", "exactly_once": "StatefulSet"}[guarantee]
    done = asked(values, workload_of(kind, replicas), directory=tmp_path, release=NAME)
    assert done.returncode == 0, done.stderr
    assert workload(objects(done.stdout))["spec"]["replicas"] == replicas


def test_a_first_install_with_keda_says_no_number(tmp_path):
    done = asked(merged(MINIMAL, KEDA), directory=tmp_path, release=NAME)
    assert "replicas" not in workload(objects(done.stdout))["spec"]


def test_without_keda_what_runs_counts_for_nothing(tmp_path):
    values = merged(MINIMAL, {"replicaCount": 3})
    done = asked(values, workload_of("Deployment", 7), directory=tmp_path, release=NAME)
    assert workload(objects(done.stdout))["spec"]["replicas"] == 3

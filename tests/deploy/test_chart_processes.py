"""Several processes in each pod: what the chart multiplies, and what it leaves alone."""

import pytest
from jsonschema import Draft202012Validator

from tests.deploy.chart_objects import (
    config,
    made,
    manifests,
    needs_helm,
    of_kind,
    worker_pod,
)
from tests.deploy.chart_values import KEDA, MINIMAL, merged
from tests.tools import chart_schema

ON_THE_CPU = merged(MINIMAL, {"gpu": {"enabled": False}})


def resources(found):
    (worker,) = [each for each in worker_pod(found)["containers"] if each["name"] == "worker"]
    return worker["resources"]


def test_the_example_s_pods_have_the_memory_of_two_processes_and_one_gpu():
    found = manifests("gpu-processes")
    assert config(found)["WORKER_PROCESSES"] == "2"
    assert resources(found) == {
        "requests": {"cpu": "4", "memory": "8Gi"},
        "limits": {"memory": "12Gi", "nvidia.com/gpu": 1},
    }


@pytest.mark.parametrize("name", ["minimal", "production-gpu", "cpu"])
def test_with_one_process_nothing_says_so_and_no_pod_rolls(name):
    assert "WORKER_PROCESSES" not in config(manifests(name))


@needs_helm
@pytest.mark.parametrize(
    ("memory", "processes", "whole"),
    [
        ("4Gi", 1, "4Gi"),
        ("4Gi", 3, "12Gi"),
        ("1.5Gi", 2, "3Gi"),
        ("1.1Gi", 3, "3.3Gi"),
        ("700M", 4, "2800M"),
        ("1e9", 2, "2e9"),
        ("4294967296", 2, "8589934592"),
        (4_294_967_296, 2, 8_589_934_592),
    ],
)
def test_memory_is_multiplied_in_whatever_unit(memory, processes, whole):
    found = made(
        merged(MINIMAL, {"processes": processes, "resources": {"limits": {"memory": memory}}})
    )
    assert resources(found)["limits"]["memory"] == whole


@needs_helm
def test_no_memory_stays_no_memory():
    none = {"requests": {"memory": None}, "limits": None}
    found = made(merged(ON_THE_CPU, {"processes": 2, "resources": none}))
    assert resources(found) == {"requests": {"cpu": "2"}}


@needs_helm
def test_only_the_worker_s_container_has_several_processes():
    fetched = {
        "checkpoint": {
            "persistentVolumeClaim": {"claimName": ""},
            "download": {"url": "https://example.com/c.tar.gz", "sha256": "0" * 64},
        },
        "processes": 2,
    }
    found = made(merged(MINIMAL, fetched), tests=True)
    memory = {
        (thing["kind"], each["name"]): each["resources"]["limits"]["memory"]
        for thing in found
        if thing["kind"] in ("Deployment", "Pod")
        for spec in [thing["spec"].get("template", thing)["spec"]]
        for each in [*spec["initContainers"], *spec["containers"]]
    }
    assert memory == {
        ("Deployment", "worker"): "16Gi",
        ("Deployment", "checkpoint"): "8Gi",
        ("Pod", "check"): "8Gi",
        ("Pod", "checkpoint"): "8Gi",
    }


@needs_helm
@pytest.mark.parametrize(
    ("cpu", "processes", "threads"), [("4", 1, "4"), ("4", 2, "2"), ("3", 2, "1"), ("1", 4, "1")]
)
def test_processes_share_the_threads_of_a_pod_without_a_gpu(cpu, processes, threads):
    asked = {"processes": processes, "resources": {"requests": {"cpu": cpu}}}
    assert config(made(merged(ON_THE_CPU, asked)))["WORKER_MODEL__THREADS"] == threads


@needs_helm
def test_keda_wants_a_pod_for_the_lag_that_all_its_processes_label():
    found = made(merged(MINIMAL, KEDA, {"processes": 2, "keda": {"maxReplicas": 2}}))
    (scaled,) = of_kind(found, "ScaledObject")
    assert scaled["spec"]["maxReplicaCount"] == 2
    (trigger,) = scaled["spec"]["triggers"]
    assert trigger["metadata"]["lagThreshold"] == "1500"  # 12.5 records/s * 2 * 60 s


@needs_helm
def test_the_user_may_write_the_transactions_of_every_process():
    user = {
        "processes": 2,
        "settings": {
            "delivery": {"guarantee": "exactly_once"},
            "kafka": {
                "replica_id": "me", "security_protocol": "SASL_SSL",
                "sasl_mechanism": "SCRAM-SHA-512", "sasl_username": "emotion-worker",
            },
        },
        "credentials": {"saslPassword": {"secretName": "emotion-worker"}},
        "strimzi": {"cluster": "c", "user": {"enabled": True}},
    }  # fmt: skip
    found = made(merged(MINIMAL, user))
    (allowed,) = [
        acl["resource"]
        for acl in of_kind(found, "KafkaUser")[0]["spec"]["authorization"]["acls"]
        if acl["resource"]["type"] == "transactionalId"
    ]
    assert (allowed["name"], allowed["patternType"]) == ("emotion-worker-me-", "prefix")


def test_the_schema_has_the_bounds_of_the_setting():
    schema = chart_schema.schema()["properties"]["processes"]
    check = Draft202012Validator(schema)
    assert [check.is_valid(value) for value in (0, 1, 64, 65, "2", None)] == [
        *(False, True, True, False, False, False)
    ]

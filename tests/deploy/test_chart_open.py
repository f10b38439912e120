"""What the chart lets through: sidecars, claims, tokens, shared GPUs, and how pods spread."""

import pytest

from tests.deploy.chart_objects import (
    config,
    made,
    manifests,
    needs_helm,
    of_kind,
    pods,
    worker_pod,
    workload,
)
from tests.deploy.chart_values import KEDA, MINIMAL, VARIANTS, merged
from tests.deploy.kubelet import settings_in
from tests.tools.chart_schema import helm

OAUTH = {"settings": {"kafka": {"security_protocol": "SASL_SSL", "sasl_mechanism": "OAUTHBEARER"}}}


def paths(container):
    return {each["mountPath"] for each in container["volumeMounts"]}


# ---- GPUs that are shared ---------------------------------------------------------------------


def test_with_mps_the_pod_has_no_shared_memory_of_its_own():
    """The device plugin mounts its own there: a volume would hide it, and with it the daemon."""
    spec = worker_pod(manifests("gpu-mps"))
    assert "/dev/shm" not in paths(spec["containers"][0])
    assert "shm" not in [each["name"] for each in spec["volumes"]]


@needs_helm
def test_no_pod_mounts_shared_memory_where_it_is_off():
    values = merged(VARIANTS["trained-on-one-node"], {"scratch": {"sharedMemory": False}})
    found = made(values, tests=True)
    templates = [*pods(found), *of_kind(found, "Pod")]
    assert len(templates) == 3
    for pod in templates:
        assert "/dev/shm" not in str(pod["spec"])
        assert "Memory" not in str(pod["spec"]["volumes"])


@pytest.mark.parametrize(
    ("name", "resource", "shared"),
    [
        ("gpu-mps", "nvidia.com/gpu.shared", False),
        ("gpu-time-slicing", "nvidia.com/gpu.shared", True),
        ("gpu-mig", "nvidia.com/mig-1g.10gb", True),
    ],
)
def test_an_example_shares_a_gpu(name, resource, shared):
    found = manifests(name)
    (container,) = worker_pod(found)["containers"]
    limits = container["resources"]["limits"]
    assert {key: value for key, value in limits.items() if "nvidia" in key} == {resource: 1}
    assert ("/dev/shm" in paths(container)) == shared
    assert config(found)["WORKER_MODEL__DEVICE"] == "cuda"
    assert workload(found)["spec"]["replicas"] > 1


# ---- Devices by claim -------------------------------------------------------------------------


def test_a_claim_gives_the_gpu_in_place_of_the_device_plugin():
    found = manifests("open")
    spec = worker_pod(found)
    assert spec["resourceClaims"] == [{"name": "gpu", "resourceClaimTemplateName": "one-gpu"}]
    assert spec["containers"][0]["resources"]["claims"] == [{"name": "gpu"}]
    assert "nvidia" not in str(spec["containers"][0]["resources"])
    assert config(found)["WORKER_MODEL__DEVICE"] == "cuda"


@needs_helm
def test_the_check_claims_no_device():
    given = {"resources": {"claims": [{"name": "gpu", "request": "big"}]}}
    found = made(merged(VARIANTS["open"], given), tests=True)
    assert worker_pod(found)["containers"][0]["resources"]["claims"] == [
        {"name": "gpu", "request": "big"}
    ]
    (check,) = of_kind(found, "Pod")
    assert "laims" not in str(check["spec"])


# ---- Containers and annotations of one's own --------------------------------------------------


def test_what_is_given_is_in_the_workload():
    found = manifests("open")
    deployment, spec = workload(found), worker_pod(found)
    assert deployment["metadata"]["annotations"] == {"reloader.stakater.com/auto": "true"}
    assert deployment["spec"]["strategy"] == {"type": "Recreate"}
    assert spec["schedulerName"] == "volcano"
    assert [each["name"] for each in spec["containers"]] == ["worker", "proxy"]
    assert [each["name"] for each in spec["initContainers"]] == ["late"]
    assert spec["containers"][0]["envFrom"][1:] == [
        {"secretRef": {"name": "proxy", "optional": True}}
    ]


@needs_helm
def test_an_init_container_of_one_s_own_follows_the_fetch_and_is_in_the_check():
    more = {"extraInitContainers": [{"name": "late", "image": "a"}]}
    found = made(merged(VARIANTS["plain-password"], more), tests=True)
    for spec in (worker_pod(found), of_kind(found, "Pod")[0]["spec"]):
        assert [each["name"] for each in spec["initContainers"]] == ["checkpoint", "late"]


@needs_helm
def test_a_stateful_set_takes_its_strategy_and_annotations_too():
    more = {
        "settings": {"delivery": {"guarantee": "exactly_once"}},
        "strategy": {"type": "OnDelete"},
        "workloadAnnotations": {"a": "b"},
    }
    found = workload(made(merged(MINIMAL, more)))
    assert found["kind"] == "StatefulSet"
    assert found["spec"]["updateStrategy"] == {"type": "OnDelete"}
    assert found["metadata"]["annotations"] == {"a": "b"}


def test_relabelings_follow_those_that_rules_and_dashboard_go_by():
    (monitor,) = of_kind(manifests("open"), "PodMonitor")
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    targets = [each.get("targetLabel") for each in endpoint["relabelings"]]
    assert targets == [None, "instance", "release", "cluster"]
    assert endpoint["metricRelabelings"][0]["action"] == "drop"


# ---- How pods spread --------------------------------------------------------------------------


@needs_helm
@pytest.mark.parametrize(
    ("values", "keys"),
    [
        ({"replicaCount": 1}, ["kubernetes.io/hostname"]),  # or going to two would roll the pods
        ({"replicaCount": 2}, ["kubernetes.io/hostname"]),
        (KEDA, ["kubernetes.io/hostname"]),
        ({"replicaCount": 2, "defaultTopologySpread": False}, []),
        (
            {
                "replicaCount": 2,
                "topologySpreadConstraints": [
                    {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}
                ],
            },
            ["zone"],
        ),
    ],
)  # fmt: skip
def test_pods_prefer_different_nodes_unless_told_otherwise(values, keys):
    spec = worker_pod(made(merged(MINIMAL, values)))
    spread = spec.get("topologySpreadConstraints", [])
    assert [each["topologyKey"] for each in spread] == keys
    if keys == ["kubernetes.io/hostname"]:
        assert spread[0]["whenUnsatisfiable"] == "ScheduleAnyway"  # no pod waits for a node
        assert spread[0]["labelSelector"]["matchLabels"]["app.kubernetes.io/component"] == "worker"


# ---- Tokens of OAUTHBEARER --------------------------------------------------------------------


def test_a_token_of_the_service_account_feeds_oauthbearer(monkeypatch, tmp_path):
    found = manifests("open")
    spec = worker_pod(found)
    (volume,) = (each for each in spec["volumes"] if each["name"] == "kafka")
    assert {"audience": "kafka", "expirationSeconds": 3600, "path": "token"} in [
        source.get("serviceAccountToken") for source in volume["projected"]["sources"]
    ]
    settings = settings_in(spec, found, monkeypatch, tmp_path)
    assert settings.kafka.sasl_token_file.read_text() == "service account for kafka"
    assert spec["automountServiceAccountToken"] is False  # nothing else is given


@needs_helm
def test_a_sidecar_may_write_the_token():
    more = {
        "credentials": {"saslToken": {"path": "/tokens/kafka"}},
        "extraVolumes": [{"name": "tokens", "emptyDir": {"medium": "Memory"}}],
        "extraVolumeMounts": [{"name": "tokens", "mountPath": "/tokens"}],
        "extraInitContainers": [
            {
                "name": "tokens",
                "image": "registry.example.com/tokens:1",
                "restartPolicy": "Always",
                "volumeMounts": [{"name": "tokens", "mountPath": "/tokens"}],
            }
        ],
    }
    found = made(merged(MINIMAL, OAUTH, more))
    assert config(found)["WORKER_KAFKA__SASL_TOKEN_FILE"] == "/tokens/kafka"
    assert "/tokens" in paths(worker_pod(found)["containers"][0])


@needs_helm
@pytest.mark.parametrize(
    ("token", "given"),
    [
        ({}, "none"),
        ({"path": "/a", "secretName": "b"}, "secretName, path"),
        ({"path": "/a", "serviceAccount": {"audience": "b"}}, "serviceAccount.audience, path"),
    ],
)
def test_a_token_comes_from_one_place(token, given):
    done = helm("template", "emotion-worker", ".", values=merged(
        MINIMAL, OAUTH, {"credentials": {"saslToken": token}}
    ))  # fmt: skip
    assert done.returncode != 0
    wanted = "needs exactly one of secretName, serviceAccount.audience and path; given: "
    assert f"credentials.saslToken: OAUTHBEARER {wanted}{given}\n" in done.stderr

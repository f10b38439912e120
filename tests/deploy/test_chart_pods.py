"""Pods that the chart makes: safe, in time, and understood by the worker."""

import re

import pytest

from tests.deploy.chart_objects import (
    EVERY_SET,
    WORKLOADS,
    config,
    containers,
    made,
    manifests,
    mount_of,
    needs_helm,
    of_kind,
    pods,
    volume_of,
    worker_pod,
    workload,
)
from tests.deploy.chart_values import GROUP, MINIMAL, VARIANTS, merged
from tests.deploy.kubelet import settings_in
from tests.tools.chart_schema import CHART, ROOT

# Kinds of volumes that Pod Security `restricted` allows, of those that the chart knows.
SAFE_VOLUMES = {"configMap", "emptyDir", "image", "persistentVolumeClaim", "projected"}

# ---- The workload -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", EVERY_SET)
def test_at_least_once_is_a_deployment_and_exactly_once_a_stateful_set(name):
    found = manifests(name)
    guarantee = config(found)["WORKER_DELIVERY__GUARANTEE"]
    kinds = [thing["kind"] for thing in found if thing["kind"] in WORKLOADS]
    assert kinds == [{"at_least_once": "Deployment", "exactly_once": "StatefulSet"}[guarantee]]


def test_a_rollout_needs_no_spare_gpu():
    deployment = workload(manifests("minimal"))
    assert deployment["spec"]["strategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1},
    }


def test_replicas_of_a_stateful_set_are_named_and_do_not_wait_for_one_another():
    found = manifests("production-gpu")
    spec = workload(found)["spec"]
    assert spec["podManagementPolicy"] == "Parallel"
    assert spec["updateStrategy"] == {"type": "RollingUpdate"}
    (service,) = of_kind(found, "Service")
    assert service["metadata"]["name"] == spec["serviceName"]
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["selector"] == spec["selector"]["matchLabels"]
    assert "WORKER_KAFKA__REPLICA_ID" not in config(found)  # the pod's name is it


@pytest.mark.parametrize("name", EVERY_SET)
def test_replicas_are_told_where_keda_does_not_scale(name):
    found = manifests(name)
    spec = workload(found)["spec"]
    scaled = bool(of_kind(found, "ScaledObject"))
    assert ("replicas" in spec) is not scaled
    assert name != "cpu" or spec["replicas"] == 2


@pytest.mark.parametrize("name", EVERY_SET)
def test_selectors_never_change(name):
    found = manifests(name)
    spec = workload(found)["spec"]
    assert spec["selector"]["matchLabels"] == {
        "app.kubernetes.io/name": "emotion-worker",
        "app.kubernetes.io/instance": "emotion-worker",
        "app.kubernetes.io/component": "worker",
    }
    for other in of_kind(found, "PodMonitor", "PodDisruptionBudget"):
        assert other["spec"]["selector"] == spec["selector"]


@pytest.mark.parametrize("name", EVERY_SET)
def test_every_object_says_what_it_is_and_where_it_comes_from(name):
    project = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    for thing in manifests(name):
        labels = thing["metadata"]["labels"]
        assert labels["app.kubernetes.io/name"] == "emotion-worker"
        assert labels["app.kubernetes.io/instance"] == "emotion-worker"
        assert labels["app.kubernetes.io/version"] == project[1]
        assert labels["app.kubernetes.io/part-of"] == "emotion-stream"
        assert labels["app.kubernetes.io/component"]
        assert labels["app.kubernetes.io/managed-by"] in ("Helm", "kustomize")
        assert labels["helm.sh/chart"].startswith("emotion-worker-")


@pytest.mark.parametrize("name", EVERY_SET)
def test_no_label_of_a_pod_changes_with_a_version(name):
    for pod in pods(manifests(name)):
        assert not {"helm.sh/chart", "app.kubernetes.io/version"} & set(pod["metadata"]["labels"])


@needs_helm
def test_labels_and_annotations_of_ones_own_do_not_double_the_charts():
    more = {"team": "nlp", "release": "mine", "grafana_dashboard": "2"}
    values = {
        "commonLabels": more,
        "podLabels": more,
        "podMonitor": {"enabled": True, "labels": more | {"release": "theirs"}},
        "dashboard": {"enabled": True, "labels": more},
        "podAnnotations": {"checksum/config": "mine"},
    }
    found = made(merged(MINIMAL, values))
    (monitor,) = of_kind(found, "PodMonitor")
    assert monitor["metadata"]["labels"]["release"] == "theirs"
    assert workload(found)["metadata"]["labels"]["release"] == "mine"
    (pod,) = pods(found)
    assert re.fullmatch("[0-9a-f]{64}", pod["metadata"]["annotations"]["checksum/config"])


@needs_helm
def test_names_fit_where_kubernetes_appends_to_them():
    values = merged(VARIANTS["trained-on-one-node"], VARIANTS["one-identity"], GROUP)
    for thing in made(values, release="r" * 53):
        assert len(thing["metadata"]["name"]) <= 63
    name = workload(made(values, release="r" * 43 + "-" * 9 + "r"))["metadata"]["name"]
    assert name == "r" * 43
    assert len(name) <= 52  # the hash of a StatefulSet's revision follows, in a label


@needs_helm
def test_changed_settings_roll_the_pods_and_a_new_chart_does_not():
    def template_of(values):
        return workload(made(values))["spec"]["template"]

    before = template_of(MINIMAL)
    assert template_of(merged(MINIMAL, {"replicaCount": 2})) == before
    after = template_of(merged(MINIMAL, {"settings": {"batch": {"max_wait": 0.1}}}))
    assert after != before
    for template in (before, after):
        del template["metadata"]["annotations"]["checksum/config"]
    assert after == before


# ---- Pods -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EVERY_SET)
def test_pods_are_restricted(name):
    for pod in pods(manifests(name)):
        spec = pod["spec"]
        assert not {"hostNetwork", "hostPID", "hostIPC", "hostUsers"} & set(spec)
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in containers(spec):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert not [port for port in container.get("ports", []) if "hostPort" in port]
        kinds = {kind for volume in spec["volumes"] for kind in volume} - {"name"}
        # A folder of the node is what a user chose against `restricted`, and was told so.
        assert kinds <= SAFE_VOLUMES | ({"hostPath"} if name.endswith("one-node") else set())


@pytest.mark.parametrize("name", EVERY_SET)
def test_pods_run_as_a_user_that_the_image_knows(name):
    dockerfile = (ROOT / "deploy" / "docker" / "Dockerfile").read_text()
    uid = int(re.search(r"--uid (\d+) ", dockerfile)[1])
    for pod in pods(manifests(name)):
        context = pod["spec"]["securityContext"]
        assert {context[each] for each in ("runAsUser", "runAsGroup", "fsGroup")} == {uid}


@needs_helm
def test_a_cluster_that_gives_out_uids_is_not_told_any():
    ours = dict.fromkeys(("runAsUser", "runAsGroup", "fsGroup", "fsGroupChangePolicy"))
    found = made(merged(MINIMAL, {"podSecurityContext": ours}))
    assert worker_pod(found)["securityContext"] == {
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


@pytest.mark.parametrize("name", EVERY_SET)
def test_pods_write_to_tmp_and_shared_memory_only(name):
    for pod in pods(manifests(name)):
        volumes = {each["name"]: each for each in pod["spec"]["volumes"]}
        assert volumes["tmp"]["emptyDir"]["sizeLimit"]
        shared = name != "gpu-mps"  # there the device plugin mounts it
        assert ("shm" in volumes) == shared
        if shared:
            assert volumes["shm"]["emptyDir"]["medium"] == "Memory"
            assert volumes["shm"]["emptyDir"]["sizeLimit"]
        for container in (each for each in containers(pod["spec"]) if each["name"] != "checkpoint"):
            mounts = {each["mountPath"]: each for each in container["volumeMounts"]}
            assert mounts["/tmp"]["name"] == "tmp"
            assert not shared or mounts["/dev/shm"]["name"] == "shm"
            writable = {path for path, each in mounts.items() if not each.get("readOnly")}
            more = {"/output"} if container["name"] == "train" else {"/more"}
            assert writable <= {"/tmp", "/dev/shm"} | more


@pytest.mark.parametrize("name", EVERY_SET)
def test_pods_know_nothing_of_kubernetes(name):
    for pod in pods(manifests(name)):
        assert pod["spec"]["automountServiceAccountToken"] is False
        assert pod["spec"]["enableServiceLinks"] is False  # or WORKER_PORT comes from a Service
    for account in of_kind(manifests(name), "ServiceAccount"):
        assert account["automountServiceAccountToken"] is False
        assert account["metadata"]["name"] == pods(manifests(name))[0]["spec"]["serviceAccountName"]


def test_without_a_service_account_of_its_own_the_default_one_is_used():
    assert not of_kind(manifests("token"), "ServiceAccount")
    assert pods(manifests("token"))[0]["spec"]["serviceAccountName"] == "default"


@pytest.mark.parametrize("name", EVERY_SET)
def test_probes_ask_what_they_are_for(name):
    found = manifests(name)
    (container, *_) = worker_pod(found)["containers"]
    port = int(config(found)["WORKER_HTTP__PORT"])
    assert container["ports"] == [{"name": "http", "containerPort": port}]
    asked = {
        kind: container[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")
    }
    # /readyz needs brokers and a model: as a startup or liveness probe it would kill without help.
    assert asked == {
        "startup": {"path": "/livez", "port": "http"},
        "liveness": {"path": "/livez", "port": "http"},
        "readiness": {"path": "/readyz", "port": "http"},
    }
    startup = container["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] >= 60
    liveness = container["livenessProbe"]
    assert liveness["periodSeconds"] * liveness["failureThreshold"] >= 30


@pytest.mark.parametrize("name", EVERY_SET)
def test_a_worker_has_the_time_to_drain_and_nothing_holds_the_signal_up(name):
    found = manifests(name)
    spec = worker_pod(found)
    assert spec["terminationGracePeriodSeconds"] == 45
    assert float(config(found)["WORKER_DRAIN__DEADLINE"]) == 25
    assert "lifecycle" not in spec["containers"][0]


def test_a_worker_on_a_gpu_asks_for_one_and_goes_where_there_are_some():
    found = manifests("production-gpu")
    spec = worker_pod(found)
    assert spec["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert spec["tolerations"] == [
        {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
    ]
    assert spec["nodeSelector"] == {"nvidia.com/gpu.product": "NVIDIA-L4"}
    assert config(found)["WORKER_MODEL__DEVICE"] == "cuda"
    assert "WORKER_MODEL__THREADS" not in config(found)
    assert "runtimeClassName" not in spec
    air_gapped = worker_pod(manifests("air-gapped"))
    assert air_gapped["runtimeClassName"] == "nvidia"


@pytest.mark.parametrize(("name", "threads"), [("cpu", "2"), ("on-one-node", "2")])
def test_a_worker_on_the_cpu_has_as_many_threads_as_it_asks_for_cpus(name, threads):
    found = manifests(name)
    spec = worker_pod(found)
    assert "nvidia.com/gpu" not in spec["containers"][0]["resources"]["limits"]
    assert config(found)["WORKER_MODEL__DEVICE"] == "cpu"
    assert config(found)["WORKER_MODEL__THREADS"] == threads
    tolerated = {each["key"] for each in spec.get("tolerations", [])}
    assert tolerated <= {"spot"}


@needs_helm
@pytest.mark.parametrize(
    ("cpu", "threads"), [("1", "1"), (4, "4"), ("2500m", "3"), ("100m", "1"), (0.5, "1")]
)
def test_a_part_of_a_cpu_counts_as_a_thread(cpu, threads):
    values = {"gpu": {"enabled": False}, "resources": {"requests": {"cpu": cpu}}}
    found = made(merged(MINIMAL, values))
    assert config(found)["WORKER_MODEL__THREADS"] == threads
    given = merged(MINIMAL, values, {"settings": {"model": {"threads": 7}}})
    assert config(made(given))["WORKER_MODEL__THREADS"] == "7"


@pytest.mark.parametrize("name", EVERY_SET)
def test_nothing_sets_which_gpus_a_pod_sees(name):
    assert "NVIDIA_VISIBLE_DEVICES" not in str(manifests(name))


# ---- Settings and secrets ---------------------------------------------------------------------


@pytest.mark.parametrize("name", EVERY_SET)
def test_the_worker_takes_what_the_pod_gives_it(name, monkeypatch, tmp_path):
    found = manifests(name)
    settings = settings_in(worker_pod(found), found, monkeypatch, tmp_path)
    kafka, said = settings.kafka, config(found)
    assert settings.model.checkpoint == tmp_path / "checkpoint"
    assert said.keys() >= {"WORKER_INPUT__TOPIC", "WORKER_HTTP__PORT", "WORKER_DRAIN__DEADLINE"}
    assert not [key for key in said if "PASSWORD" in key]
    if kafka.security_protocol.startswith("SASL_") and kafka.sasl_mechanism != "OAUTHBEARER":
        assert kafka.sasl_password.get_secret_value().endswith("/password")
    if kafka.security_protocol.endswith("SSL"):
        assert kafka.ssl_cafile or kafka.ssl_certfile
    if name == "client-certificate":
        assert kafka.ssl_certfile.read_text() == "user/user.crt"
        assert kafka.ssl_keyfile.read_text() == "user/user.key"
        assert kafka.ssl_key_password.get_secret_value() == "user/user.password"
    if name == "token":
        assert kafka.sasl_token_file.read_text() == "token/token"
    if name == "on-one-node":
        assert (kafka.fetch_max_bytes, settings.batch.max_wait) == (33_554_432, 0.00001)


@pytest.mark.parametrize("name", EVERY_SET)
def test_every_secret_is_a_file(name):
    for pod in pods(manifests(name)):
        for container in containers(pod["spec"]):
            added = 1 if name == "open" else 0  # a user's own, which may be of a proxy
            sources = container.get("envFrom", [])
            for source in sources[: len(sources) - added]:
                assert list(source) == ["configMapRef"]
            for variable in container.get("env", []):
                assert "valueFrom" not in variable
        # Passwords have a folder to themselves: the worker takes every file in it for a setting.
        for volume in pod["spec"]["volumes"]:
            for source in volume.get("projected", {}).get("sources", []):
                for item in source.get("secret", {}).get("items", []):
                    is_setting = item["path"].startswith("WORKER_")
                    assert is_setting == (volume["name"] == "secrets")


# ---- The checkpoint ---------------------------------------------------------------------------


def test_a_checkpoint_on_a_claim_cannot_be_changed():
    spec = worker_pod(manifests("minimal"))
    assert volume_of(spec, "checkpoint")["persistentVolumeClaim"] == {
        "claimName": "emotion-checkpoints",
        "readOnly": True,
    }
    assert mount_of(spec, "checkpoint") == {
        "name": "checkpoint",
        "mountPath": "/checkpoint",
        "readOnly": True,
        "subPath": "emotion-v1",
    }


def test_a_checkpoint_may_be_an_image():
    spec = worker_pod(manifests("air-gapped"))
    image = volume_of(spec, "checkpoint")["image"]
    assert re.fullmatch(r"registry\.internal\.example/\S+@sha256:[0-9a-f]{64}", image["reference"])
    assert mount_of(spec, "checkpoint")["subPath"] == "emotion"
    assert spec["imagePullSecrets"] == [{"name": "registry-internal"}]
    assert re.search(r"@sha256:[0-9a-f]{64}$", spec["containers"][0]["image"])


def test_a_checkpoint_on_the_node_has_to_be_there():
    spec = worker_pod(manifests("on-one-node"))
    wanted = {"path": "/srv/checkpoint", "type": "Directory"}
    assert volume_of(spec, "checkpoint")["hostPath"] == wanted


def test_a_checkpoint_that_is_fetched_is_checked_before_the_worker_starts():
    found = manifests("cpu")
    spec = worker_pod(found)
    (fetch,) = spec["initContainers"]
    assert fetch["image"] == spec["containers"][0]["image"]
    assert fetch["command"] == ["python", "/fetch/fetch_checkpoint.py"]
    options = dict(word.split("=", 1) for word in fetch["args"])
    assert options["--url"] == "https://artifacts.example.com/emotion/emotion-v1.tar.gz"
    assert re.fullmatch("[0-9a-f]{64}", options["--sha256"])
    assert options["--authorization"] == "/fetch/authorization"
    assert {"name": "checkpoint", "mountPath": options["--into"]} in fetch["volumeMounts"]
    assert volume_of(spec, "checkpoint")["emptyDir"] == {"sizeLimit": "4Gi"}
    assert mount_of(spec, "checkpoint")["readOnly"] is True
    (script,) = (thing for thing in of_kind(found, "ConfigMap") if "fetch" in str(thing["data"]))
    ours = (CHART / "files" / "fetch_checkpoint.py").read_text()
    assert script["data"] == {"fetch_checkpoint.py": ours}


def test_authorities_for_the_fetch_are_a_file():
    spec = worker_pod(manifests("plain-password"))
    (fetch,) = spec["initContainers"]
    assert fetch["env"] == [{"name": "SSL_CERT_FILE", "value": "/fetch/ca.crt"}]
    assert "--url=https://artifacts.example.com:8443/a.tar.gz?a=b&c=d" in fetch["args"]
    items = [
        (source["secret"]["name"], source["secret"]["items"])
        for source in volume_of(spec, "fetch")["projected"]["sources"]
        if "secret" in source
    ]
    assert items == [("authorities", [{"key": "ca.crt", "path": "ca.crt"}])]

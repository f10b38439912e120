"""The Helm chart as a whole: valid everywhere, in step with the settings, every value documented.

The examples are read from deploy/rendered, so that most tests of the chart need no helm. Whether
they are what the chart makes, the other sets of values, and what is refused need it on the PATH.
"""

import json
import re
import shutil
import textwrap
from concurrent.futures import ThreadPoolExecutor

import jsonschema
import pytest
import yaml

from tests.deploy.chart_objects import (
    EVERY_SET,
    check_schema,
    made,
    manifests,
    needs_helm,
    objects,
    of_kind,
    values_of,
    workload,
)
from tests.deploy.chart_values import EVERYTHING, MINIMAL, merged
from tests.deploy.kubelet import settings_in
from tests.tools import chart_schema
from tests.tools.chart_schema import CHART, EXAMPLES, NAME, RENDERED, helm
from worker.settings import Settings

DEFAULTS = yaml.safe_load((CHART / "values.yaml").read_text())

# Values in Kubernetes' own shape: what is in them is documented there.
OF_KUBERNETES = [
    *(("resources",), ("training", "resources"), ("podSecurityContext",)),
    *(("containerSecurityContext",), ("keda", "behavior"), ("gpu", "tolerations")),
    *(("strimzi", "topics", role, "config") for role in ("input", "output", "dlq")),
]


@needs_helm
@pytest.mark.parametrize("name", ["nothing but the defaults", *EVERY_SET])
def test_helm_lint_finds_nothing(name):
    values = {} if name.startswith("nothing") else values_of(name)
    done = helm("lint", ".", "--strict", values=values)
    assert done.returncode == 0, done.stdout
    assert "[WARNING]" not in done.stdout


@needs_helm
@pytest.mark.parametrize("example", EXAMPLES)
def test_the_plain_manifests_are_what_the_chart_makes(example):
    folder = RENDERED / example
    found = {
        str(path.relative_to(folder)): path.read_text()
        for path in folder.rglob("*")
        if path.is_file()
    }
    assert found == chart_schema.rendered(example), "run `make chart`"


def test_there_are_plain_manifests_of_every_example_and_of_nothing_else():
    assert sorted(path.name for path in RENDERED.iterdir()) == EXAMPLES


@pytest.mark.parametrize("example", EXAMPLES)
def test_kustomize_takes_every_file(example):
    for found in (RENDERED / example).rglob("kustomization.yaml"):
        listed = yaml.safe_load(found.read_text())["resources"]
        files = [path.name for path in found.parent.iterdir() if path.is_file()]
        assert sorted([*listed, "kustomization.yaml"]) == sorted(files)


@pytest.mark.parametrize("example", EXAMPLES)
def test_kubectl_delete_k_finds_no_topic(example):
    """kubectl heeds no annotation: what it must not delete cannot be in its kustomization."""
    folder = RENDERED / example
    listed = yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"]
    kinds = {thing["kind"] for name in listed for thing in objects((folder / name).read_text())}
    assert "Deployment" in kinds or "StatefulSet" in kinds
    assert "KafkaTopic" not in kinds
    assert bool(of_kind(manifests(example), "KafkaTopic")) == (folder / "topics").is_dir()


@pytest.mark.parametrize("name", EVERY_SET)
def test_every_object_is_valid_in_every_kubernetes(name):
    found = manifests(name)
    assert {"ConfigMap"} < {thing["kind"] for thing in found}
    for thing in found:
        check_schema(thing)


@pytest.mark.parametrize(
    ("name", "kind", "path"),
    [
        ("minimal", "Deployment", ("spec", "template", "spec", "containers", 0)),
        ("air-gapped", "Deployment", ("spec", "template", "spec", "volumes", 2, "image")),
        ("training", "Job", ("spec", "podFailurePolicy", "rules", 0)),
        ("production-gpu", "ScaledObject", ("spec", "fallback")),
        ("production-gpu", "TriggerAuthentication", ("spec", "secretTargetRef", 0)),
        ("production-gpu", "KafkaTopic", ("spec",)),
        ("production-gpu", "KafkaUser", ("spec", "authorization", "acls", 0, "resource")),
        ("production-gpu", "PodMonitor", ("spec", "podMetricsEndpoints", 0)),
        ("production-gpu", "PrometheusRule", ("spec", "groups", 0)),
    ],
)
def test_a_misspelt_field_would_be_found(name, kind, path):
    thing = of_kind(manifests(name), kind)[0]
    part = thing
    for step in path:
        part = part[step]
    part["misspelt"] = "x"
    with pytest.raises(jsonschema.ValidationError, match="misspelt"):
        check_schema(thing)


def test_the_schema_of_the_settings_is_made_from_the_settings():
    assert json.loads(chart_schema.SCHEMA.read_text()) == chart_schema.schema(), "run `make chart`"


def test_the_schema_refuses_what_it_does_not_know_everywhere():
    schema = json.loads(chart_schema.SCHEMA.read_text())
    found = [path for path, part in parts(schema) if "properties" in part]
    lax = [path for path in found if at(schema, path).get("additionalProperties") is not False]
    assert len(found) > 40
    assert lax == [
        ("definitions", "amounts"),  # any resource that a cluster has
        ("definitions", "env", "items"),  # an EnvVar, in Kubernetes' own shape
        ("definitions", "containers", "items"),  # containers and claims, likewise
    ]


def test_the_values_begin_with_the_workers_own_defaults():
    theirs = Settings.model_construct()
    given = [
        (getattr(getattr(theirs, group), name), value)
        for group, values in DEFAULTS["settings"].items()
        for name, value in values.items()
        if name not in ("bootstrap_servers", "group_id")  # one release is one group
    ]
    assert len(given) == 7
    assert [their for their, _ in given] == [our for _, our in given]


def test_an_example_without_a_gpu_takes_the_image_without_cuda():
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
    seen = set()
    for path in (CHART / "examples").glob("*.yaml"):
        values = yaml.safe_load(path.read_text())
        on_gpu = values.get("gpu", {}).get("enabled", True)
        seen.add(on_gpu)
        assert values["image"].get("tag", "") == ("" if on_gpu else f"{version}-cpu"), path.name
    assert seen == {True, False}


def test_the_chart_has_the_version_of_the_project():
    project = (CHART.parents[2] / "pyproject.toml").read_text()
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert f'\nversion = "{chart["appVersion"]}"\n' in project


def test_every_value_has_a_comment():
    lines = (CHART / "values.yaml").read_text().splitlines()
    bare = [path for path, number in leaves() if not lines[number - 1].lstrip().startswith("#")]
    assert bare == []


# Another value, where one more letter or one more of a number would be refused.
OTHER = {
    "image.digest": f"sha256:{'ab' * 32}",
    "image.pullPolicy": "Always",
    "imagePullSecrets": [{"name": "registry"}],
    "checkpoint.image.pullPolicy": "Always",
    "checkpoint.download.sha256": "cd" * 32,
    "checkpoint.hostPath.path": "/x",
    "checkpoint.download.url": "https://x.example.com/x",
    "prometheusRule.runbookBaseUrl": "https://x.example.com",
    "prometheusRule.alerts": {"EmotionWorkerStalled": {"enabled": False}},
    "prometheusRule.release.kafkaExporterMatchers": 'cluster="a"',
    "settings.kafka.bootstrap_servers": "other:9092",
    "settings.kafka.security_protocol": "SSL",
    "settings.delivery.guarantee": "exactly_once",
    "strimzi.apiVersion": "kafka.strimzi.io/v1beta2",
    "strimzi.user.authentication": "tls",
    "training.image.digest": f"sha256:{'ab' * 32}",
    "training.image.pullPolicy": "Never",
    "training.data.hostPath.path": "/x",
    "training.output.hostPath.path": "/x",
    "training.settings": {"epochs": 9},
    "training.resources": {"limits": {"memory": "9Gi"}},
    "resources": {"limits": {"memory": "9Gi"}},
    "gpu.resource": "x.com/gpu",
    "gpu.tolerations": [],
    "tolerations": [{"key": "spot"}],
    "strategy": {"type": "RollingUpdate"},
    "envFrom": [{"secretRef": {"name": "a"}}],
    "extraContainers": [{"name": "a"}],
    "extraInitContainers": [{"name": "a"}],
    "resourceClaims": [{"name": "a"}],
    "podMonitor.relabelings": [{"targetLabel": "a"}],
    "podMonitor.metricRelabelings": [{"regex": "a"}],
    "credentials.saslToken.path": "/x",
    "topologySpreadConstraints": [{"maxSkew": 1}],
    "extraEnv": [{"name": "A", "value": "b"}],
    "extraVolumes": [{"name": "v", "emptyDir": {}}],
    "extraVolumeMounts": [{"name": "v", "mountPath": "/v"}],
    "training.extraEnv": [{"name": "A", "value": "b"}],
    "networkPolicy.metricsFrom": [{"podSelector": {}}],
    "networkPolicy.kafkaPorts": [9092, 9093],
    "networkPolicy.kafkaTo": [{"podSelector": {}}],
    "networkPolicy.extraEgress": [{"ports": [{"port": 1}]}],
    "podMonitor.interval": "31s",
    "podMonitor.scrapeTimeout": "5s",
    "keda.partitions": 9,
    "keda.recordsPerSecond": 9,
}


@needs_helm
def test_every_value_does_something():
    # Each one, changed alone, changes what is made or what is refused, in one of these sets.
    bases = [merged(MINIMAL, EVERYTHING), MINIMAL, *map(values_of, EVERY_SET)]
    before = [outcome(base) for base in bases]

    def idle(path):
        for base, was in zip(bases, before, strict=True):
            change = another(".".join(path), at(merged(DEFAULTS, base), path))
            for key in reversed(path):
                change = {key: change}
            now = outcome(merged(base, change))
            assert "specifications of the schema" not in now, f"give {path} another value"
            if now != was:
                return None
        return ".".join(path)

    with ThreadPoolExecutor(4) as pool:
        assert [each for each in pool.map(idle, [path for path, _ in leaves()]) if each] == []


@needs_helm
@pytest.mark.parametrize("name", EVERY_SET)
def test_helm_test_runs_a_check_where_the_worker_would_and_needs_no_gpu(
    name, monkeypatch, tmp_path
):
    (check,) = of_kind(made(values_of(name), tests=True), "Pod")
    check_schema(check)
    assert check["metadata"]["annotations"]["helm.sh/hook"] == "test"
    assert check["spec"]["restartPolicy"] == "Never"
    (container,) = check["spec"]["containers"]
    assert container["args"] == ["check"]
    assert "nvidia" not in str(check)  # no GPU, so neither its nodes nor its runtime
    settings = settings_in(check["spec"], manifests(name), monkeypatch, tmp_path)
    assert (settings.model.device, settings.model.dtype) == ("cpu", "float32")
    # Neither scraped, nor in the budget, nor taken for a worker.
    worker = workload(manifests(name))["spec"]["selector"]["matchLabels"]
    assert not worker.items() <= check["metadata"]["labels"].items()


@needs_helm
@pytest.mark.parametrize("name", ["minimal", "production-gpu", "training", "gpu-processes"])
def test_what_is_said_after_an_install_is_short_and_names_the_workload(name, tmp_path):
    # `helm template` leaves the notes out: here they are made part of an object.
    chart = shutil.copytree(CHART, tmp_path / "chart")
    notes = (chart / "templates" / "NOTES.txt").read_text()
    text = "apiVersion: v1\nkind: Notes\ntext: |\n" + textwrap.indent(notes, "  ")
    (chart / "templates" / "notes.yaml").write_text(text)
    done = helm("template", NAME, str(chart), values=values_of(name))
    (told,) = of_kind(objects(done.stdout), "Notes")
    thing = workload(manifests(name))
    assert told["text"].startswith(f"{thing['kind']} {thing['metadata']['name']}: group ")
    assert len(told["text"].splitlines()) < 12
    assert ("Training: " in told["text"]) == (name == "training")
    assert ("2 processes of each pod share its GPU" in told["text"]) == (name == "gpu-processes")


def leaves():
    """Every value of values.yaml: its path, and the number of its line from 0."""
    above = ()
    for number, line in enumerate((CHART / "values.yaml").read_text().splitlines()):
        match = re.match(r"( *)([\w.-]+):", line)
        if match:
            above = (*above[: len(match[1]) // 2], match[2])
            inside = any(above[: len(path)] == path for path in OF_KUBERNETES if above != path)
            if not inside and (above in OF_KUBERNETES or is_leaf(at(DEFAULTS, above))):
                yield above, number


def is_leaf(value):
    return not isinstance(value, dict) or not value


def at(tree, path):
    for key in path:
        tree = tree[key]
    return tree


def parts(schema, path=()):
    """Every part of a JSON Schema that is one itself, with the path to it."""
    if isinstance(schema, dict):
        if path[-1:] not in (("properties",), ("definitions",)):
            yield path, schema
        for key, part in schema.items():
            yield from parts(part, (*path, key))


def another(name, value):
    """A value that is not this one and is not refused."""
    if name in OTHER:
        return OTHER[name]
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, dict):
        return {"x": "y"}
    if re.fullmatch(r"\d+[GM]i", value):
        return "5Gi"
    return f"{value}x"


def outcome(values):
    """What helm makes of values, or says of them."""
    done = helm("template", NAME, ".", values=values)
    return done.stdout + done.stderr

"""What the chart makes of a set of values, as objects, and whether they are valid."""

import copy
import functools
import json

import kubernetes_validate
import pytest
import yaml
from jsonschema import Draft202012Validator
from kubernetes_validate import utils

from tests.deploy.chart_values import VARIANTS
from tests.tools.chart_schema import CHART, EXAMPLES, KUBERNETES, NAME, RENDERED, ROOT, helm
from tests.tools.programs import require

EVERY_SET = [*EXAMPLES, *VARIANTS]
WORKLOADS = ("Deployment", "StatefulSet")

needs_helm = pytest.mark.tool("helm")


def manifests(name):
    """The objects of a set: an example's from deploy/rendered, which needs no helm."""
    if name not in EXAMPLES:
        require("helm")
    return copy.deepcopy(_manifests(name))


@functools.cache
def _manifests(name):
    if name not in EXAMPLES:
        return made(VARIANTS[name])
    files = sorted((RENDERED / name).rglob("*.yaml"))
    return [
        thing
        for file in files
        if file.name != "kustomization.yaml"
        for thing in objects(file.read_text())
    ]


def made(values, *, release=NAME, namespace="default", tests=False):
    """The objects that helm makes of these values."""
    words = ["--namespace", namespace, *([] if tests else ["--skip-tests"])]
    done = helm("template", release, ".", *words, values=values)
    assert done.returncode == 0, done.stderr
    return objects(done.stdout)


def objects(text):
    return [thing for thing in yaml.load_all(text, Loader=_Loader) if thing]


class _Loader(yaml.CSafeLoader):
    """Refuses a key that is there twice: which of the two counts differs from reader to reader."""

    def construct_mapping(self, node, deep=False):  # noqa: FBT002 - PyYAML's
        keys = [self.construct_object(key, deep=deep) for key, _ in node.value]
        assert len(keys) == len(set(keys)), f"twice: {sorted(keys)}"
        return super().construct_mapping(node, deep=deep)


def values_of(name):
    """The values of a set."""
    if name in VARIANTS:
        return VARIANTS[name]
    return yaml.safe_load((CHART / "examples" / f"{name}.yaml").read_text())


def of_kind(things, *kinds):
    return [thing for thing in things if thing["kind"] in kinds]


def workload(things):
    """The Deployment or StatefulSet."""
    (found,) = of_kind(things, *WORKLOADS)
    return found


def worker_pod(things):
    """The specification of the worker's pods."""
    return workload(things)["spec"]["template"]["spec"]


def pods(things):
    """The templates of all pods."""
    return [thing["spec"]["template"] for thing in of_kind(things, *WORKLOADS, "Job")]


def containers(spec):
    """The chart's own containers of a pod, without those that a user adds."""
    found = [*spec["containers"], *spec.get("initContainers", [])]
    return [each for each in found if each["name"] in ("worker", "train", "checkpoint", "check")]


def config(things):
    """The worker's variables."""
    name = worker_pod(things)["containers"][0]["envFrom"][0]["configMapRef"]["name"]
    (found,) = (
        thing for thing in of_kind(things, "ConfigMap") if thing["metadata"]["name"] == name
    )
    return found["data"]


def volume_of(spec, name):
    (found,) = (each for each in spec["volumes"] if each["name"] == name)
    return found


def mount_of(spec, name):
    (found,) = (each for each in spec["containers"][0]["volumeMounts"] if each["name"] == name)
    return found


def check_schema(thing):
    """Checks an object strictly, as each Kubernetes does, or as the operator it belongs to.

    Raises:
        jsonschema.ValidationError: It has a field too many, too few, or of a wrong kind.
    """
    version = thing["apiVersion"].partition("/")[2]
    for name in (f"{thing['kind']}-{version}.json", f"{thing['kind']}.json"):
        crd = ROOT / "tests" / "deploy" / "crds" / name
        if crd.exists():
            Draft202012Validator(json.loads(crd.read_text())).validate(thing)
            return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(utils, "schema_contents", _schema_contents)
        for version in KUBERNETES:
            kubernetes_validate.validate(thing, version, strict=True)


# Read once: the definitions of a version are more than a megabyte.
_schema_contents = functools.cache(utils.schema_contents)

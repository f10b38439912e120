"""What is made of the chart: the settings' part of its schema, and deploy/rendered.

`make chart` writes them, tests compare. A render needs helm on the PATH.
"""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from tests.tools import programs
from train.settings import RunSettings
from worker.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "deploy" / "helm" / "emotion-worker"
RENDERED = ROOT / "deploy" / "rendered"
SCHEMA = CHART / "values.schema.json"
EXAMPLES = sorted(path.stem for path in (CHART / "examples").glob("*.yaml"))
KUBERNETES = ("1.31", "1.34", "1.37")
NAME = "emotion-worker"

# The chart's own to set: it mounts the checkpoint, knows the device, and passes files by Secrets.
OF_THE_CHART = {
    "model": {"checkpoint", "device"},
    "kafka": {
        *("sasl_password", "sasl_token_file", "ssl_key_password"),
        *("ssl_cafile", "ssl_certfile", "ssl_keyfile"),
    },
}
OF_THE_JOB = {"output", "work_dir", "device"}
# Files whose objects hold data: `kubectl delete -k` heeds no annotation, so it must not find them.
KEPT_APART = ("strimzi-topics.yaml",)


def schema():
    """The schema of the values, its parts that speak of settings made anew."""
    whole = json.loads(SCHEMA.read_text())
    whole["properties"]["settings"] = worker_settings()
    whole["properties"]["processes"] = _plain(_property("processes"))
    whole["properties"]["training"]["properties"]["settings"] = training_settings()
    return whole


def worker_settings():
    given = yaml.safe_load((CHART / "values.yaml").read_text())["settings"]
    model = Settings.model_json_schema()
    groups = {}
    for name, group in model["properties"].items():
        if "$ref" not in group:
            continue  # a setting without a group is a value of the chart itself
        fields = model["$defs"][group["$ref"].rpartition("/")[2]]["properties"]
        mine = {k: v for k, v in fields.items() if k not in OF_THE_CHART.get(name, ())}
        # Templates read what values.yaml gives; `null` would take it away.
        groups[name] = _object(mine, required=sorted(given.get(name, ())))
    groups["http"]["properties"]["port"]["minimum"] = 1  # the pod has to say which
    kafka = groups["kafka"]["properties"]
    del kafka["bootstrap_servers"]["default"]
    kafka["group_id"] |= {"default": "", "minLength": 0}  # the release's name
    return {"description": Settings.__doc__} | _object(groups, required=sorted(given))


def _property(name):
    return Settings.model_json_schema()["properties"][name]


def training_settings():
    fields = RunSettings.model_json_schema()["properties"]
    return _object({k: v for k, v in fields.items() if k not in OF_THE_JOB}, required=[])


def _object(properties, *, required):
    made = {"type": "object", "additionalProperties": False}
    if required:
        made["required"] = required
    return made | {"properties": {name: _plain(each) for name, each in properties.items()}}


def _plain(field):
    """A field without its title, and with `null` as one of its types."""
    field = {key: value for key, value in field.items() if key != "title"}
    if "description" in field:
        field["description"] = " ".join(field["description"].split())
    if "anyOf" in field:
        (kind,) = (each for each in field.pop("anyOf") if each != {"type": "null"})
        del field["default"]
        kind = kind | {"type": [kind["type"], "null"]}
        if "enum" in kind:
            kind["enum"] = [*kind["enum"], None]
        field |= kind
    return field


def helm(*words, values=None, kubernetes=KUBERNETES[1]):
    """Runs helm in the chart's folder, with these values, as for this version of Kubernetes.

    The version that it takes by itself depends on how it was built.
    """
    if values is not None:
        words = (*words, "--values", "-")
    return subprocess.run(
        ["helm", *words, "--kube-version", kubernetes],
        cwd=CHART,
        input=None if values is None else json.dumps(values),
        capture_output=True,
        text=True,
        check=False,
    )


def template(example):
    """What helm makes of an example, without the pod of `helm test`."""
    words = ["--values", f"examples/{example}.yaml", "--skip-tests"]
    if namespace := namespace_of(example):
        words += ["--namespace", namespace]
    done = helm("template", NAME, ".", *words)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return done.stdout


def namespace_of(example):
    """The namespace that an example is written for; None if any will do."""
    text = (CHART / "examples" / f"{example}.yaml").read_text()
    found = re.search(r"^#.* --namespace (\S+)$", text, re.MULTILINE)
    return found and found[1]


def rendered(example):
    """An example as plain manifests: the text of each file by its name."""
    files = {}
    for part in template(example).split("---\n# Source: ")[1:]:
        source, _, text = part.partition("\n")
        name = Path(source).name
        files[name] = (files[name] + "---\n" if name in files else "") + text.strip("\n") + "\n"
    plain = {
        name: re.sub("^ +$", "", text, flags=re.MULTILINE).replace(
            "managed-by: Helm", "managed-by: kustomize"
        )
        for name, text in files.items()
    }
    made = f"# Made by `make chart` from the chart and its examples/{example}.yaml. "
    namespace = namespace_of(example)
    kept = {name: plain.pop(name) for name in KEPT_APART if name in plain}
    note = "A change of the\n# ConfigMap rolls no pods here: kubectl rollout restart does.\n"
    if namespace:
        note += f"# For the namespace {namespace}, which prometheusrule.yaml names too.\n"
    if kept:
        note += "# The topics are in topics/, with a kustomization of their own.\n"
        plain |= {f"topics/{name}": text for name, text in kept.items()}
        apart = (
            "The topics are\n# apart: `kubectl apply -k` creates them, and `kubectl delete -k` of"
            " them deletes their records.\n"
        )
        plain["topics/kustomization.yaml"] = made + _kustomization(kept, apart, namespace)
    listed = [name for name in plain if "/" not in name]
    plain["kustomization.yaml"] = made + _kustomization(listed, note, namespace)
    return plain


def _kustomization(names, note, namespace):
    listed = "".join(f"  - {name}\n" for name in sorted(names))
    return (
        f"{note}"
        "apiVersion: kustomize.config.k8s.io/v1beta1\n"
        "kind: Kustomization\n"
        + (f"namespace: {namespace}\n" if namespace else "")
        + f"resources:\n{listed}"
    )


def write():
    programs.use()
    SCHEMA.write_text(json.dumps(schema(), indent=2) + "\n")
    if shutil.which("helm") is None:
        sys.exit(f"there is no helm: {programs.COMMAND} fetches it; deploy/rendered is as it was")
    shutil.rmtree(RENDERED, ignore_errors=True)
    for example in EXAMPLES:
        for name, text in rendered(example).items():
            (RENDERED / example / name).parent.mkdir(parents=True, exist_ok=True)
            (RENDERED / example / name).write_text(text)


if __name__ == "__main__":
    write()

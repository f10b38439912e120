"""The schemas that objects of other operators are checked against, cut to what a check needs.

Each file beside this one is the `openAPIV3Schema` of one kind, without descriptions, status, the
metadata that all kinds share, and rules in CEL. An object with fields that it does not name is
refused. All three projects are under the Apache License 2.0.

To make them anew, name the files on the command line, and which version they are of:

    python -m tests.deploy.crds.make 'KEDA 2.20.2' keda.sh_scaledobjects.yaml \\
        keda.sh_triggerauthentications.yaml
    python -m tests.deploy.crds.make 'prometheus-operator 0.85.0' \\
        monitoring.coreos.com_podmonitors.yaml monitoring.coreos.com_prometheusrules.yaml
    python -m tests.deploy.crds.make 'Strimzi 1.2.0' KafkaTopic.json KafkaUser.json

The first two publish them in their Go modules, github.com/kedacore/keda/v2 (config/crd/bases) and
github.com/prometheus-operator/prometheus-operator (example/prometheus-operator-crd). Strimzi's come
from its Java classes: compile StrimziSchemas.java against io.strimzi:api with what it depends on,
and run it with the folder to write to (1.x needs Java 21). The files `-v1beta2` are of 0.50.0, one
of the last with that version of the API: Strimzi 1.0 removed it.
"""

import json
import sys
from pathlib import Path

import yaml

HERE = Path(__file__).resolve().parent
KEPT = ("type", "enum", "pattern", "required", "nullable")
BOUNDS = ("minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems")


def strict(schema):
    """JSON Schema of an OpenAPI schema, which refuses fields that it does not name."""
    made = {key: schema[key] for key in (*KEPT, *BOUNDS) if key in schema}
    if made.pop("nullable", False):
        made["type"] = [made["type"], "null"]
    if schema.get("x-kubernetes-int-or-string"):
        made = {"type": ["integer", "string"]}
    if "properties" in schema:
        made["properties"] = {name: strict(each) for name, each in schema["properties"].items()}
        made["additionalProperties"] = schema.get("x-kubernetes-preserve-unknown-fields", False)
    if isinstance(schema.get("additionalProperties"), dict):
        made["additionalProperties"] = strict(schema["additionalProperties"])
    if "items" in schema:
        made["items"] = strict(schema["items"])
    return made


def kinds(path):
    """The schema of each kind in a file: a CRD, or what StrimziSchemas.java wrote."""
    found = yaml.safe_load(path.read_text())
    if found.get("kind") != "CustomResourceDefinition":
        return {path.stem: found}
    spec = found["spec"]
    (version,) = spec["versions"]
    schema = version["schema"]["openAPIV3Schema"]
    name = f"{spec['group']}/{version['name']}"
    schema["properties"]["apiVersion"] = {"type": "string", "enum": [name]}
    return {spec["names"]["kind"]: schema}


def write(source, paths):
    for path in paths:
        for kind, schema in kinds(path).items():
            schema["properties"].pop("status", None)
            schema["properties"] |= {"kind": {"type": "string"}, "metadata": {"type": "object"}}
            made = {"$comment": f"{kind} of {source}, Apache-2.0"} | strict(schema)
            (HERE / f"{kind}.json").write_text(json.dumps(made, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    write(sys.argv[1], [Path(word) for word in sys.argv[2:]])

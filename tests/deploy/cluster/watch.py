"""A Prometheus on this machine that watches a namespace as the chart's PodMonitor says.

The pods are reached through the API server (`kubectl proxy`), so a kubeconfig is all it needs.
Prometheus itself is the one on the PATH; no operator is involved: what it would make of a
PodMonitor and a PrometheusRule is made here. Debian's Prometheus is built without the discovery
of Kubernetes: the same labels are written to a file for it.
"""

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml

from tests.deploy.cluster.kube import Cluster, CommandError
from tests.deploy.prometheus import Prometheus
from tests.support.worker_process import free_port


@contextmanager
def prometheus(
    pod_monitor: dict[str, Any], rules: list[dict[str, Any]], cluster: Cluster, directory: Path
) -> Iterator[Prometheus]:
    """Runs it until the block ends.

    Args:
        pod_monitor, rules: The chart's objects: those of all releases, and the release's own.
        cluster: Where the pods are.
        directory: For configuration and data.
    """
    port = free_port()
    path = directory / "rules.yaml"
    groups = [group for rule in rules for group in rule["spec"]["groups"]]
    path.write_text(yaml.safe_dump({"groups": groups}))
    server = Prometheus(directory, path, every=5, relabel=relabel_configs(pod_monitor, port))
    proxy = subprocess.Popen(
        ["kubectl", "proxy", f"--port={port}"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    try:
        with _discovery(cluster, server):
            yield server.start()
    finally:
        server.stop()
        proxy.terminate()
        proxy.wait(30)


@contextmanager
def _discovery(cluster: Cluster, server: Prometheus) -> Iterator[None]:
    """Keeps the targets in step with the pods of a namespace."""
    over = threading.Event()

    def look() -> None:
        while not over.wait(2.0):
            with suppress(CommandError):
                pods = cluster.get("pods")["items"]
                server.tell(each for pod in pods for each in targets(pod))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def targets(pod: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A pod's ports, with the labels that Prometheus's own discovery gives them."""
    if "podIP" not in pod["status"]:
        return
    meta = {
        "__meta_kubernetes_namespace": pod["metadata"]["namespace"],
        _meta("name"): pod["metadata"]["name"],
        _meta("phase"): pod["status"]["phase"],
    }
    for name, value in pod["metadata"].get("labels", {}).items():
        meta |= {_meta(f"label_{name}"): value, _meta(f"labelpresent_{name}"): "true"}
    for container in pod["spec"]["containers"]:
        for port in container.get("ports", []):
            number = str(port["containerPort"])
            own = {
                _meta("container_name"): container["name"],
                _meta("container_port_name"): port.get("name", ""),
                _meta("container_port_number"): number,
            }
            yield {"targets": [f"{pod['status']['podIP']}:{number}"], "labels": meta | own}


def relabel_configs(pod_monitor: dict[str, Any], proxy: int) -> list[dict[str, Any]]:
    """What the operator makes of a PodMonitor with one endpoint, for the fields that ours has."""
    spec = pod_monitor["spec"]
    (endpoint,) = spec["podMetricsEndpoints"]
    return [
        *(
            {
                "source_labels": [_meta(f"label_{name}"), _meta(f"labelpresent_{name}")],
                "regex": f"{value};true",
                "action": "keep",
            }
            for name, value in spec["selector"]["matchLabels"].items()
        ),
        {
            "source_labels": [_meta("container_port_name")],
            "regex": endpoint["port"],
            "action": "keep",
        },
        {"source_labels": [_meta("phase")], "regex": "(Failed|Succeeded)", "action": "drop"},
        {"source_labels": ["__meta_kubernetes_namespace"], "target_label": "namespace"},
        {"source_labels": [_meta("container_name")], "target_label": "container"},
        {"source_labels": [_meta("name")], "target_label": "pod"},
        {"source_labels": [_meta(f"label_{spec['jobLabel']}")], "target_label": "job"},
        *(_snake(each) for each in endpoint["relabelings"]),
        # Not the operator's: through the API server instead of straight to the pod.
        {
            "source_labels": [
                "__meta_kubernetes_namespace",
                _meta("name"),
                _meta("container_port_number"),
            ],
            "regex": "(.+);(.+);(.+)",
            "target_label": "__metrics_path__",
            "replacement": f"/api/v1/namespaces/$1/pods/$2:$3/proxy{endpoint['path']}",
        },
        {"target_label": "__address__", "replacement": f"127.0.0.1:{proxy}"},
    ]


def _meta(name: str) -> str:
    clean = "".join(letter if letter.isalnum() else "_" for letter in name)
    return f"__meta_kubernetes_pod_{clean}"


def _snake(rule: dict[str, Any]) -> dict[str, Any]:
    names = {"sourceLabels": "source_labels", "targetLabel": "target_label"}
    return {names.get(name, name): value for name, value in rule.items()}

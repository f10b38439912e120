"""A Prometheus on this machine that watches a namespace as the chart's PodMonitor says.

The pods are reached through the API server (`kubectl proxy`), so a kubeconfig is all it needs.
Prometheus itself is the one on the PATH; no operator is involved: what it would make of a
PodMonitor and a PrometheusRule is made here. Debian's Prometheus is built without the discovery
of Kubernetes: the same labels are written to a file for it.
"""

import json
import shutil
import subprocess
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml

from tests.deploy.cluster.kube import Cluster, CommandError
from tests.kafka_helpers import wait_until
from tests.worker_process import free_port


class Prometheus:
    def __init__(self, address: str) -> None:
        self._address = address

    def get(self, path: str, **parameters: str) -> Any:
        query = urllib.parse.urlencode(parameters)
        with urllib.request.urlopen(f"{self._address}{path}?{query}", timeout=10) as answer:
            return json.load(answer)["data"]

    def value(self, expression: str) -> list[tuple[dict[str, str], float]]:
        found = self.get("/api/v1/query", query=expression)["result"]
        return [(each["metric"], float(each["value"][1])) for each in found]

    def firing(self, release: str) -> set[str]:
        """Names of the alerts that fire for a release, or for none in particular."""
        alerts = self.get("/api/v1/alerts")["alerts"]
        return {
            each["labels"]["alertname"]
            for each in alerts
            if each["state"] == "firing" and each["labels"].get("release", release) == release
        }


@contextmanager
def prometheus(
    pod_monitor: dict[str, Any], rules: dict[str, Any], cluster: Cluster, directory: Path
) -> Iterator[Prometheus]:
    """Runs it until the block ends.

    Args:
        pod_monitor, rules: The chart's objects.
        cluster: Where the pods are.
        directory: For configuration and data.
    """
    proxy, port = free_port(), free_port()
    pods = directory / "pods.json"
    (directory / "rules.yaml").write_text(yaml.safe_dump({"groups": rules["spec"]["groups"]}))
    config = {
        "global": {"scrape_interval": "5s", "evaluation_interval": "5s"},
        "rule_files": [str(directory / "rules.yaml")],
        "scrape_configs": list(scrape_configs(pod_monitor, pods, proxy)),
    }
    (directory / "prometheus.yaml").write_text(yaml.safe_dump(config))
    commands = [
        ["kubectl", "proxy", f"--port={proxy}"],
        [
            "prometheus",
            f"--config.file={directory / 'prometheus.yaml'}",
            f"--storage.tsdb.path={directory / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--log.level=warn",
        ],
    ]
    running = []
    try:
        with (directory / "prometheus.log").open("wb") as log:
            running.extend(
                subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
                for command in commands
            )
        server = Prometheus(f"http://127.0.0.1:{port}")
        wait_until(lambda: _answers(server), 60, "Prometheus answers", every=0.5)
        with _discovery(cluster, pods):
            yield server
    finally:
        for process in running:
            process.terminate()
            process.wait(30)
        shutil.rmtree(directory / "data", ignore_errors=True)


@contextmanager
def _discovery(cluster: Cluster, path: Path) -> Iterator[None]:
    """Keeps a file in step with the pods of a namespace."""
    over = threading.Event()

    def look() -> None:
        while not over.wait(2.0):
            with suppress(CommandError):
                found = [each for pod in cluster.get("pods")["items"] for each in targets(pod)]
                path.with_suffix(".new").write_text(json.dumps(found))
                path.with_suffix(".new").replace(path)

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
        "__meta_kubernetes_pod_name": pod["metadata"]["name"],
        "__meta_kubernetes_pod_phase": pod["status"]["phase"],
    }
    for name, value in pod["metadata"].get("labels", {}).items():
        meta |= {_meta(f"label_{name}"): value, _meta(f"labelpresent_{name}"): "true"}
    for container in pod["spec"]["containers"]:
        for port in container.get("ports", []):
            number = str(port["containerPort"])
            own = {
                "__meta_kubernetes_pod_container_name": container["name"],
                "__meta_kubernetes_pod_container_port_name": port.get("name", ""),
                "__meta_kubernetes_pod_container_port_number": number,
            }
            yield {"targets": [f"{pod['status']['podIP']}:{number}"], "labels": meta | own}


def scrape_configs(pod_monitor: dict[str, Any], pods: Path, proxy: int) -> Iterator[dict[str, Any]]:
    """What the operator makes of a PodMonitor, for the fields that ours has."""
    spec = pod_monitor["spec"]
    for endpoint in spec["podMetricsEndpoints"]:
        relabel = [
            {
                "source_labels": [_meta(f"label_{name}"), _meta(f"labelpresent_{name}")],
                "regex": f"{value};true",
                "action": "keep",
            }
            for name, value in spec["selector"]["matchLabels"].items()
        ]
        relabel += [
            {
                "source_labels": ["__meta_kubernetes_pod_container_port_name"],
                "regex": endpoint["port"],
                "action": "keep",
            },
            {
                "source_labels": ["__meta_kubernetes_pod_phase"],
                "regex": "(Failed|Succeeded)",
                "action": "drop",
            },
            {"source_labels": ["__meta_kubernetes_namespace"], "target_label": "namespace"},
            {
                "source_labels": ["__meta_kubernetes_pod_container_name"],
                "target_label": "container",
            },
            {"source_labels": ["__meta_kubernetes_pod_name"], "target_label": "pod"},
            *(
                {"source_labels": [_meta(f"label_{name}")], "target_label": name}
                for name in spec.get("podTargetLabels", [])
            ),
            {"source_labels": [_meta(f"label_{spec['jobLabel']}")], "target_label": "job"},
            *(_snake(each) for each in endpoint.get("relabelings", [])),
            # Not the operator's: through the API server instead of straight to the pod.
            {
                "source_labels": [
                    "__meta_kubernetes_namespace",
                    "__meta_kubernetes_pod_name",
                    "__meta_kubernetes_pod_container_port_number",
                ],
                "regex": "(.+);(.+);(.+)",
                "target_label": "__metrics_path__",
                "replacement": "/api/v1/namespaces/$1/pods/$2:$3/proxy"
                + endpoint.get("path", "/metrics"),
            },
            {"target_label": "__address__", "replacement": f"127.0.0.1:{proxy}"},
        ]
        yield {
            "job_name": f"podMonitor/{pod_monitor['metadata']['name']}",
            "file_sd_configs": [{"files": [str(pods)], "refresh_interval": "5s"}],
            "relabel_configs": relabel,
        }


def _meta(name: str) -> str:
    clean = "".join(letter if letter.isalnum() else "_" for letter in name)
    return f"__meta_kubernetes_pod_{clean}"


def _snake(rule: dict[str, Any]) -> dict[str, Any]:
    names = {"sourceLabels": "source_labels", "targetLabel": "target_label"}
    return {names.get(name, name): value for name, value in rule.items()}


def _answers(server: Prometheus) -> bool:
    try:
        return bool(server.get("/api/v1/status/buildinfo"))
    except OSError:
        return False

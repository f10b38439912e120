"""A namespace of a cluster, through kubectl and helm as a person would use them."""

import json
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).resolve().parents[3] / "deploy" / "helm" / "emotion-worker"


class CommandError(RuntimeError):
    """A command failed; the message has what it said."""


class Cluster:
    """Of the current kubeconfig. All names are in one namespace.

    Args:
        namespace: Made where it is not there.
        directory: For values files.
    """

    def __init__(self, namespace: str, directory: Path) -> None:
        self.namespace = namespace
        self._directory = directory

    def kubectl(self, *words: str, given: str | None = None, timeout: float = 180.0) -> str:
        """What kubectl prints.

        Raises:
            CommandError: It failed, or takes longer than `timeout` seconds.
        """
        return _run(["kubectl", "-n", self.namespace, *words], given, timeout)

    def copy(self, folder: Path, pod: str, target: str) -> None:
        """What is in a folder of this machine, into one of a pod that has tar."""
        with tempfile.TemporaryFile() as archive:
            with tarfile.open(fileobj=archive, mode="w") as tar:
                tar.add(folder, ".")
            archive.seek(0)
            words = ["kubectl", "-n", self.namespace, "exec", "-i", pod, "--"]
            done = subprocess.run(
                [*words, "tar", "-x", "--no-same-owner", "-f", "-", "-C", target],
                stdin=archive, capture_output=True, text=True, check=False,
            )  # fmt: skip
        if done.returncode:
            raise CommandError(f"copy of {folder}: {done.stderr.strip()}")

    def apply(self, *objects: Mapping[str, Any]) -> None:
        self.kubectl("apply", "-f", "-", given=yaml.safe_dump_all(objects))

    def get(self, *words: str) -> Any:
        return json.loads(self.kubectl("get", *words, "-o", "json"))

    def install(self, release: str, *values: Mapping[str, Any], chart: Path = CHART) -> None:
        """`helm upgrade --install`, of this repository's chart; later values win. Does not wait."""
        words = []
        for number, each in enumerate(values):
            path = self._directory / f"{release}-{number}.yaml"
            path.write_text(yaml.safe_dump(dict(each)))
            words += ["--values", str(path)]
        helm = ["helm", "-n", self.namespace, "upgrade", "--install", release, str(chart)]
        _run([*helm, *words], None, 120.0)

    def roll_back(self, release: str) -> None:
        """`helm rollback` to the revision before. Does not wait."""
        _run(["helm", "-n", self.namespace, "rollback", release], None, 120.0)

    def test(self, release: str) -> None:
        """`helm test`.

        Raises:
            CommandError: It failed.
        """
        helm = ["helm", "-n", self.namespace, "test", release, "--timeout", "120s"]
        _run(helm, None, 150.0)

    def render(self, release: str, *values: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The objects of the chart, without a cluster."""
        path = self._directory / f"{release}-render.yaml"
        merged: dict[str, Any] = {}
        for each in values:
            _merge(merged, each)
        path.write_text(yaml.safe_dump(merged))
        words = ["helm", "-n", self.namespace, "template", release, str(CHART)]
        words += ["--kube-version", "1.34"]  # helm knows none that is asked for without a cluster
        text = _run([*words, "--values", str(path)], None, 60.0)
        return [each for each in yaml.safe_load_all(text) if each]

    def uninstall(self, release: str) -> None:
        """Removes a release and waits until its pods are gone."""
        helm = ["helm", "-n", self.namespace, "uninstall", release, "--ignore-not-found"]
        _run([*helm, "--wait", "--timeout", "120s"], None, 180.0)
        self.kubectl("wait", "--for=delete", "pod", *selector(release), "--timeout=120s")

    def pods(self, release: str) -> list[dict[str, Any]]:
        """The workers of a release, by name, without those that are going."""
        found = self.get("pods", *selector(release))["items"]
        found = [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]
        return sorted(found, key=name_of)

    def ready(self, release: str) -> int:
        return sum(is_ready(pod) for pod in self.pods(release))

    def events(self, name: str) -> list[str]:
        """What was told of an object: reason and message."""
        found = self.get("events", "--field-selector", f"involvedObject.name={name}")["items"]
        return [f"{event['reason']}: {event['message']}" for event in found]


def selector(release: str) -> tuple[str, str]:
    """Words for kubectl that choose a release's workers."""
    return "-l", f"app.kubernetes.io/instance={release},app.kubernetes.io/component=worker"


def name_of(thing: Mapping[str, Any]) -> str:
    return str(thing["metadata"]["name"])


def is_ready(pod: Mapping[str, Any]) -> bool:
    conditions = pod["status"].get("conditions", [])
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def restarts(pod: Mapping[str, Any]) -> int:
    return sum(each["restartCount"] for each in pod["status"].get("containerStatuses", []))


def last_exit(pod: Mapping[str, Any]) -> int | None:
    """With which code its worker ended before the last restart."""
    (status,) = pod["status"]["containerStatuses"]
    ended = status.get("lastState", {}).get("terminated")
    return ended["exitCode"] if ended else None


def _run(command: list[str], given: str | None, timeout: float) -> str:
    try:
        done = subprocess.run(
            command, input=given, capture_output=True, text=True, timeout=timeout, check=False
        )
    except FileNotFoundError:
        raise CommandError(f"{command[0]} is not on the PATH") from None
    except subprocess.TimeoutExpired:
        raise CommandError(f"{' '.join(command)}: not done after {timeout:.0f} s") from None
    if done.returncode:
        said = (done.stderr or done.stdout).strip()
        raise CommandError(f"{' '.join(command)}: exit {done.returncode}: {said}")
    return done.stdout


def _merge(into: dict[str, Any], values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        if isinstance(value, Mapping) and isinstance(into.get(name), dict):
            _merge(into[name], value)
        else:
            into[name] = dict(value) if isinstance(value, Mapping) else value

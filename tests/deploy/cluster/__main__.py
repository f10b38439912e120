"""Shows on a real cluster, yours, what deploy/README.md says of one.

Needs kubectl, helm and `make setup`.

    python -m tests.deploy.cluster --advertise ADDRESS [SCENARIO ...]

Works in a namespace of its own in the cluster of the current kubeconfig, and removes it at the
end. `disrupt` drains nodes (of its own pods only) and `gpu` adds a resource to a node for a
minute: not for a cluster that others use. Exit code 0 when all holds, 1 when something does not.
"""

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.deploy.cluster.kube import Cluster, CommandError
from tests.deploy.cluster.scenarios import ALL as ONE_CHART
from tests.deploy.cluster.upgrade import MODES, upgrade
from tests.deploy.cluster.world import CLAIM, DATA, SkipScenario, World, texts_of
from worker.demo.broker import EmbeddedKafka

ALL = (*ONE_CHART, upgrade)


def main() -> int:
    options = parsed()
    scenarios = [each for each in ALL if not options.scenario or each.__name__ in options.scenario]
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        broker = None
        if options.advertise:
            broker = stack.enter_context(reachable_kafka(options.advertise))
        port = broker.bootstrap_servers.rpartition(":")[2] if broker else ""
        cluster = Cluster(options.namespace, directory)
        world = World(
            cluster=cluster,
            directory=directory,
            bootstrap=options.bootstrap_servers or f"{options.advertise}:{port}",
            broker=broker,
            images={"worker": options.image, "trainer": options.trainer_image},
            pull_policy=options.pull_policy,
            base_model="/data/base" if options.base_folder else options.base_model,
            base_folder=options.base_folder,
            texts=texts_of(options.tweets),
            lag=options.lag,
            chart_before=options.chart_before,
            extra=yaml.safe_load(options.values.read_text()) if options.values else {},
        )
        stack.enter_context(namespace(cluster, options.host_path, keep=options.keep))
        for scenario in scenarios:
            run(world, scenario, keep=options.keep)
        world.say(f"{world.passed} held, {len(world.failed)} did not")
    return 1 if world.failed else 0


def run(world, scenario, *, keep):
    world.say(f"== {scenario.__name__}: {scenario.__doc__}")
    try:
        scenario(world)
    except SkipScenario as reason:
        world.say(f"skip  {scenario.__name__}: {reason}")
    except (AssertionError, CommandError) as error:
        world.check(scenario.__name__, False, error)
        with contextlib.suppress(CommandError):
            world.say(world.cluster.kubectl("get", "pods", "-o", "wide"))
        if not keep:
            for release in (scenario.__name__, *MODES, "scale", "scale-zero"):
                with contextlib.suppress(CommandError):
                    world.cluster.uninstall(release)


@contextlib.contextmanager
def reachable_kafka(address: str) -> Iterator[EmbeddedKafka]:
    """An Apache Kafka on this machine, which pods reach at an address of it."""
    properties = {
        "listeners": "PLAINTEXT://0.0.0.0:{port},CONTROLLER://127.0.0.1:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://{address}:{{port}}",
        "auto.create.topics.enable": "false",
    }
    with EmbeddedKafka(properties=properties) as kafka:
        yield kafka


@contextlib.contextmanager
def namespace(cluster: Cluster, host_path: str | None, *, keep: bool) -> Iterator[None]:
    """Made with the strictest pod security, and a claim for models; all of it is removed."""
    enforce = {"pod-security.kubernetes.io/enforce": "restricted"}
    cluster.apply(
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": cluster.namespace, "labels": enforce},
        }
    )
    volume = f"{cluster.namespace}-{CLAIM}"
    size = {"storage": "5Gi"}
    claim: dict[str, Any] = {
        "accessModes": ["ReadWriteMany" if host_path else "ReadWriteOnce"],
        "resources": {"requests": size},
    }
    if host_path:  # a folder of a cluster's only node
        claim |= {"volumeName": volume, "storageClassName": ""}
        cluster.apply(
            {
                "apiVersion": "v1",
                "kind": "PersistentVolume",
                "metadata": {"name": volume},
                "spec": {
                    "capacity": size,
                    "accessModes": ["ReadWriteMany"],
                    "hostPath": {"path": host_path},
                    "claimRef": {"namespace": cluster.namespace, "name": CLAIM},
                    "storageClassName": "",
                },
            }
        )
    cluster.apply(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": CLAIM},
            "spec": claim,
        }
    )
    try:
        yield
    finally:
        if not keep:
            cluster.kubectl("delete", "namespace", cluster.namespace, timeout=300)
            if host_path:
                cluster.kubectl("delete", "persistentvolume", volume)


def parsed() -> argparse.Namespace:
    names = [each.__name__ for each in ALL]
    parser = argparse.ArgumentParser(
        prog="python -m tests.deploy.cluster", description=__doc__.partition("\n")[0]
    )
    parser.add_argument(
        "scenario", nargs="*", help=f"of {' '.join(names)}; default: all", metavar="SCENARIO"
    )
    kafka = parser.add_mutually_exclusive_group(required=True)
    kafka.add_argument(
        "--advertise",
        metavar="ADDRESS",
        help="starts Apache Kafka here; pods reach this machine at ADDRESS",
    )
    kafka.add_argument("--bootstrap-servers", help="your own Kafka, for here and for the pods")
    parser.add_argument("--namespace", default="emotion-check")
    parser.add_argument("--image", default="emotion-worker:local")
    parser.add_argument("--trainer-image", default="emotion-trainer:local")
    parser.add_argument("--pull-policy", default="IfNotPresent")
    parser.add_argument(
        "--host-path",
        metavar="FOLDER",
        help="of a cluster's only node, writable by uid 65532, for models; default: a claim of "
        "the cluster's default storage class",
    )
    model = parser.add_mutually_exclusive_group()
    model.add_argument("--base-model", default="bert-base-uncased", help="hub name")
    model.add_argument("--base-folder", type=Path, help="a base model on this machine")
    parser.add_argument(
        "--tweets",
        type=Path,
        default=DATA / "train.jsonl",
        help="jsonl with `text`; default: the sentences of this project",
    )
    parser.add_argument(
        "--lag",
        type=int,
        default=60_000,
        help="messages that come at once in `keda`, more than two workers label in 20 s; "
        "default: %(default)s",
    )
    parser.add_argument(
        "--chart-before",
        type=Path,
        metavar="FOLDER",
        help="the chart that `upgrade` comes from, as `git archive` has it of a commit before",
    )
    parser.add_argument("--values", type=Path, help="chart values for every release")
    parser.add_argument("--keep", action="store_true", help="leaves the namespace behind")
    options = parser.parse_args()
    if unknown := set(options.scenario) - set(names):
        parser.error(f"no such scenario: {', '.join(unknown)}")
    return options


if __name__ == "__main__":
    try:
        sys.exit(main())
    except CommandError as error:  # before or after the scenarios: no cluster, no rights
        print(error, file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)

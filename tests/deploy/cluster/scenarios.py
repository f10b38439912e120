"""What is shown on a cluster, one function each, in the order in which `all` runs them."""

import contextlib
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from tests.deploy.cluster.kube import CommandError, last_exit, name_of, restarts, selector
from tests.deploy.cluster.traffic import Traffic
from tests.deploy.cluster.watch import prometheus
from tests.deploy.cluster.world import CHECKPOINT, DATA, SkipScenario, World
from tests.support.kafka_helpers import wait_until

STREAM = 20_000
RATE = 300.0
"""Messages, and how many a second: what two small workers keep up with, while one is away."""

# Beside the worker's own files, so that a person can make its model hang from outside: what
# Python imports before all else. `freeze` holds the interpreter, so that no thread runs on.
HANG = """
import ctypes, os
import worker.model.classifier as module

def wrapped(launch):
    def hanging(self, staged):
        for name, library in (("hang", ctypes.CDLL), ("freeze", ctypes.PyDLL)):
            if os.path.exists("/tmp/" + name):
                os.unlink("/tmp/" + name)
                library(None).sleep(10**6)
        return launch(self, staged)
    return hanging

module.TorchClassifier.launch = wrapped(module.TorchClassifier.launch)
"""


def train(world: World) -> None:
    """The Job makes a checkpoint, which every other scenario's workers read."""
    release = "train"
    fill_volume(world)
    traffic = world.traffic(release)
    training = {
        "enabled": True,
        "image": world.image("trainer"),
        "gpu": False,
        "settings": {"dataset": "/data/tweets", "base_model": world.base_model, "epochs": 6},
        "data": world.volume,
        "output": {"directory": CHECKPOINT, **world.volume},
        "resources": {"requests": {"cpu": "500m", "memory": "2Gi"}, "limits": {"memory": "6Gi"}},
    }
    world.cluster.install(release, world.values(traffic), {"training": training, "replicaCount": 0})
    begin = time.monotonic()
    (job,) = world.cluster.get("jobs", "-l", f"app.kubernetes.io/instance={release}")["items"]

    def ended() -> set[str]:
        status = world.cluster.get("job", name_of(job))["status"]
        kinds = {each["type"] for each in status.get("conditions", []) if each["status"] == "True"}
        return kinds & {"Complete", "Failed"}

    kinds = wait_until(ended, 1_200, "the training Job ends", every=2.0)
    for line in world.cluster.kubectl("logs", f"job/{name_of(job)}", "--tail=8").splitlines():
        world.say(f"      {line}")
    world.check("the training Job made a checkpoint", kinds == {"Complete"},
                f"{time.monotonic() - begin:.0f} s")  # fmt: skip
    world.cluster.uninstall(release)


def fill_volume(world: World) -> None:
    """Sentences to train on, and a base model where one was given, through a pod that waits."""
    mount = {"name": "models", "mountPath": "/models"}
    container = {
        "name": "fill",
        "image": world.images["trainer"],
        "imagePullPolicy": world.pull_policy,
        "command": ["sleep", "3600"],
        "volumeMounts": [mount],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    world.cluster.apply(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "fill"},
            "spec": {
                "containers": [container],
                "volumes": [{"name": "models", **world.volume}],
                "securityContext": {
                    "runAsNonRoot": True,
                    "runAsUser": 65532,
                    "fsGroup": 65532,
                    "seccompProfile": {"type": "RuntimeDefault"},
                },
                "terminationGracePeriodSeconds": 0,
                "automountServiceAccountToken": False,
            },
        }
    )
    world.cluster.kubectl("wait", "--for=condition=Ready", "pod/fill", "--timeout=170s")
    folders = {"tweets": DATA} | ({"base": world.base_folder} if world.base_folder else {})
    for name, folder in folders.items():
        world.cluster.kubectl("exec", "fill", "--", "mkdir", "-p", f"/models/{name}")
        world.cluster.copy(folder, "fill", f"/models/{name}")
    world.cluster.kubectl("exec", "fill", "--", "rm", "-rf", f"/models/{CHECKPOINT}")
    world.cluster.kubectl("delete", "pod", "fill")


def label(world: World) -> None:
    """Installed with that checkpoint it becomes ready, non-root, and labels 2,000 tweets."""
    release = "label"
    traffic = world.traffic(release)
    world.cluster.install(release, world.values(traffic), {"replicaCount": 1})
    world.check("the worker is ready", True, f"{world.wait_ready(release, 1):.0f} s after install")
    world.cluster.test(release)
    world.check("helm test: settings, checkpoint, brokers and topics will do", True)
    (pod,) = world.cluster.pods(release)
    script = "open('/opt/app/x', 'w')"
    try:
        world.cluster.kubectl("exec", name_of(pod), "--", "python", "-c", script)
        world.check("its root is read-only", holds=False)
    except CommandError as error:
        world.check("its root is read-only", "Read-only file system" in str(error))
    uid = world.cluster.kubectl("exec", name_of(pod), "--", "id", "-u").strip()
    world.check("it is not root", uid == "65532", f"uid {uid}")
    begin = time.monotonic()
    traffic.send(2_000)
    traffic.wait_done()
    seconds = time.monotonic() - begin
    verdict = traffic.verdict()
    world.check("2,000 tweets are labelled", verdict.exactly_once and verdict.labelled == 2_000,
                f"{verdict}; {2_000 / seconds:.0f}/s")  # fmt: skip
    begin = time.monotonic()
    world.cluster.kubectl("delete", "pod", name_of(pod))
    world.check("a worker drains when its pod is deleted", True,
                f"{time.monotonic() - begin:.1f} s")  # fmt: skip
    world.cluster.uninstall(release)


def disrupt(world: World) -> None:
    """Two replicas, exactly once: upgraded, deleted, killed and evicted in mid-stream."""
    release = "disrupt"
    traffic = world.traffic(release)
    values = world.values(traffic, delivery={"guarantee": "exactly_once"})
    world.cluster.install(release, values, {"replicaCount": 2})
    world.wait_ready(release, 2)
    first, second = map(name_of, world.cluster.pods(release))
    evicted: list[str] = []
    kubectl = world.cluster.kubectl

    def upgrade() -> None:
        changed = {"settings": {"batch": {"max_wait": 0.02}}}
        before = {each["metadata"]["uid"] for each in world.cluster.pods(release)}
        world.cluster.install(release, values, {"replicaCount": 2}, changed)
        kubectl("rollout", "status", f"statefulset/{stateful_set(world, release)}",
                "--timeout=280s", timeout=300)  # fmt: skip
        after = {each["metadata"]["uid"] for each in world.cluster.pods(release)}
        world.check("the upgrade replaced both workers", not before & after)

    def delete() -> None:
        kubectl("delete", "pod", first)

    def kill() -> None:
        kubectl("delete", "pod", second, "--force", "--grace-period=0")

    for what, act in (
        ("helm upgrade that changes settings", upgrade),
        ("a pod deleted", delete),
        ("a pod deleted with --force --grace-period=0", kill),
        ("kubectl drain", lambda: evicted.extend(drain(world, release))),
        ("kubectl drain, for the other", lambda: evicted.extend(drain(world, release, *evicted))),
    ):
        disturb(world, release, traffic, what, act)
    world.check("each of the two was evicted once", sorted(evicted) == [first, second])
    world.cluster.uninstall(release)


def disturb(
    world: World, release: str, traffic: Traffic, what: str, act: Callable[[], object]
) -> None:
    """Does it while messages flow, however long it takes, and counts what became of them."""
    begin, sent = time.monotonic(), traffic.sent
    with traffic.flowing(STREAM, RATE) as stream:
        wait_until(lambda: traffic.sent > sent + STREAM // 4, 120, "a quarter is sent")
        acted = time.monotonic()
        act()
        world.say(f"{what}: took {time.monotonic() - acted:.0f} s")
        world.check(f"{what}: in mid-stream", stream.is_alive(), f"{traffic.sent - sent} sent")
    world.wait_ready(release, 2)
    traffic.wait_done()
    verdict = traffic.verdict()
    world.check(f"{what}: 0 missing, 0 doubled", verdict.exactly_once,
                f"{verdict}; {time.monotonic() - begin:.0f} s")  # fmt: skip


def drain(world: World, release: str, *spared: str) -> list[str]:
    """Drains the nodes of a release, for 40 s, and brings them back; the pods that were evicted.

    Where none is spared, one of two goes and the disruption budget holds the other, whose
    successor finds no node. The `spared` are no part of the drain.
    """
    before = {name_of(pod): pod for pod in world.cluster.pods(release)}
    nodes = {pod["spec"]["nodeName"] for pod in before.values()}
    chosen = selector(release)[1]
    for name in spared:
        chosen += f",statefulset.kubernetes.io/pod-name!={name}"
    held = ""
    try:
        for node in nodes:
            words = ("drain", node, "--ignore-daemonsets", "--delete-emptydir-data")
            try:
                world.cluster.kubectl(*words, f"--pod-selector={chosen}", "--timeout=40s")
            except CommandError as error:
                held = str(error)
        after = {name_of(pod): pod["metadata"]["uid"] for pod in world.cluster.pods(release)}
        gone = [name for name, pod in before.items() if after.get(name) != pod["metadata"]["uid"]]
        if spared:
            world.check("the drain evicts the one", len(gone) == 1 and not held, held or gone[0])
        else:
            budget = "disruption budget" in held
            world.check("the drain evicts one, the budget holds the other",
                        len(gone) == 1 and budget, ", ".join(gone))  # fmt: skip
    finally:
        for node in nodes:
            world.cluster.kubectl("uncordon", node)
    return gone


def stateful_set(world: World, release: str) -> str:
    (found,) = world.cluster.get("statefulsets", *selector(release))["items"]
    return name_of(found)


def keda(world: World) -> None:
    """One worker, three, one again, as lag comes and goes; and from none, with more on the way."""
    if "scaledobjects.keda.sh" not in world.cluster.kubectl("get", "crd", "-o", "name"):
        raise SkipScenario("KEDA is not installed")
    for release, least in (("scale", 1), ("scale-zero", 0)):
        traffic = world.traffic(release)
        scaling = {
            "enabled": True,
            "minReplicas": least,
            "maxReplicas": 3,
            "partitions": 6,
            "recordsPerSecond": 200,
            "drainSeconds": 10,
            "pollingInterval": 5,
            "cooldownPeriod": 30,
            "behavior": {
                "scaleDown": {
                    # Longer than a slow cluster takes for the last lag that asks for three.
                    "stabilizationWindowSeconds": 90,
                    "policies": [{"type": "Pods", "value": 1, "periodSeconds": 15}],
                }
            },
        }
        values = world.values(traffic, delivery={"guarantee": "exactly_once"})
        world.cluster.install(release, values, {"keda": scaling})
        begin = time.monotonic()
        wait_until(lambda r=release, n=least: len(world.cluster.pods(r)) == n, 300,
                   f"{least} at rest", every=2.0)  # fmt: skip
        if least:
            world.wait_ready(release, least)
        world.say(f"{release}: {least} at rest {time.monotonic() - begin:.0f} s after install")
        with counted(world, release) as counts:
            begin = time.monotonic()
            traffic.send(world.lag)
            wait_until(lambda t=traffic: t.outputs() > 0, 300, "the first label", every=0.1)
            world.say(f"{release}: first label {time.monotonic() - begin:.1f} s after the lag")
            wait_until(lambda c=counts: c[-1] == 3, 300, "three workers", every=0.5)
            world.say(f"{release}: three wanted {time.monotonic() - begin:.1f} s after the lag")
            world.wait_ready(release, 3)
            world.say(f"{release}: three ready {time.monotonic() - begin:.1f} s after the lag")
            traffic.wait_done(600)
            world.say(f"{release}: no lag {time.monotonic() - begin:.1f} s after it came")
            rising = list(counts)
            wait_until(lambda c=counts, n=least: c[-1] == n, 600, f"{least} again", every=1.0)
            world.say(f"{release}: {least} again {time.monotonic() - begin:.1f} s after the lag")
            if not least:
                flowing_to_zero_and_back(world, release, traffic, counts)
        world.check(f"{release}: no worker went while there was lag", rising == sorted(rising),
                    "→".join(map(str, changes(counts))))  # fmt: skip
        verdict = traffic.verdict()
        world.check(f"{release}: nothing lost or doubled", verdict.exactly_once, verdict)
        world.cluster.uninstall(release)


def flowing_to_zero_and_back(
    world: World, release: str, traffic: Traffic, counts: list[int]
) -> None:
    """From none up, down to none while the next messages come, and up again."""
    for wave in ("up from none", "again, while the last worker goes"):
        begin = time.monotonic()
        traffic.send(STREAM)
        wait_until(lambda: counts[-1] > 0, 300, "a worker is wanted", every=0.1)
        world.say(
            f"{release}: {wave}: {STREAM} sent, wanted after {time.monotonic() - begin:.1f} s"
        )
        traffic.wait_done(600)
        world.say(f"{release}: {wave}: no lag after {time.monotonic() - begin:.1f} s")
        wait_until(lambda: counts[-1] == 0, 600, "none again", every=0.1)
    stream = traffic.background(STREAM // 4, RATE)  # its last workers are draining
    going = len(world.cluster.get("pods", *selector(release))["items"])
    stream.join()
    traffic.wait_done(600)
    world.say(f"{release}: {STREAM // 4} sent when none was wanted and {going} were going")
    wait_until(lambda: counts[-1] == 0, 600, "none in the end", every=1.0)


@contextlib.contextmanager
def counted(world: World, release: str) -> Iterator[list[int]]:
    """How many workers there are meant to be, looked at all the time."""
    kind = "statefulset"
    name = stateful_set(world, release)
    counts: list[int] = []
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            with contextlib.suppress(CommandError):
                counts.append(int(world.cluster.get(kind, name)["spec"].get("replicas", 0)))
            over.wait(1.0)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        wait_until(lambda: counts, 30, "a first look")
        yield counts
    finally:
        over.set()
        thread.join()


def changes(counts: list[int]) -> list[int]:
    return [
        count for number, count in enumerate(counts) if not number or counts[number - 1] != count
    ]


def health(world: World) -> None:
    """A worker that hangs is started again; one whose broker is away is not."""
    release = "health"
    traffic = world.traffic(release)
    world.cluster.apply(hang_map())
    values = world.values(traffic, model={"deadline": 20, "threads": 1})
    world.cluster.install(release, values, {"replicaCount": 1}, hanging())
    world.wait_ready(release, 1)
    (pod,) = map(name_of, world.cluster.pods(release))

    begin = time.monotonic()
    touch(world, pod, "hang")
    traffic.send(100)
    wait_restarts(world, release, 1)
    (found,) = world.cluster.pods(release)
    world.check("a hung call of the model ends the process with 1 and it is started again",
                last_exit(found) == 1, f"{time.monotonic() - begin:.0f} s")  # fmt: skip
    world.wait_ready(release, 1)
    traffic.wait_done()

    # Longer than liveness takes: so that not the worker itself, but the kubelet ends it.
    longer = world.values(traffic, model={"deadline": 600, "threads": 1})
    world.cluster.install(release, longer, {"replicaCount": 1}, hanging())
    wait_until(lambda: pod not in map(name_of, world.cluster.pods(release)), 120, "the new one")
    world.wait_ready(release, 1)
    (pod,) = map(name_of, world.cluster.pods(release))
    begin = time.monotonic()
    touch(world, pod, "freeze")
    traffic.send(100)
    wait_restarts(world, release, 1)
    told = [event for event in world.cluster.events(pod) if "Liveness probe failed" in event]
    world.check("a frozen process is started again by liveness", told,
                f"{time.monotonic() - begin:.0f} s")  # fmt: skip
    world.wait_ready(release, 1)
    traffic.wait_done()

    if world.broker is None:
        world.say("skip  the broker away for 60 s: the Kafka is not ours to stop")
    else:
        broker_away(world, release, traffic)
    verdict = traffic.verdict()
    world.check("nothing is missing", not verdict.missing, verdict)
    world.cluster.uninstall(release)


def broker_away(world: World, release: str, traffic: Any) -> None:
    (pod,) = world.cluster.pods(release)
    before = restarts(pod)
    stream = traffic.background(6_000, 200.0)
    wait_until(lambda: traffic.outputs() > 500, 60, "the stream runs")
    assert world.broker is not None
    begin = time.monotonic()
    world.broker.suspend()
    try:
        wait_until(lambda: not world.cluster.ready(release), 60, "not ready", every=0.5)
        world.say(f"not ready {time.monotonic() - begin:.0f} s after the broker went")
        time.sleep(max(0.0, begin + 60 - time.monotonic()))
    finally:
        world.broker.resume()
    back = time.monotonic()
    world.wait_ready(release, 1)
    world.say(f"ready {time.monotonic() - back:.0f} s after the broker came back")
    stream.join()
    traffic.wait_done()
    (pod,) = world.cluster.pods(release)
    world.check("a worker whose broker is away for 60 s is not started again",
                restarts(pod) == before)  # fmt: skip


def gpu(world: World) -> None:
    """One worker for one GPU; the rest wait, and the events say for what."""
    release = "gpu"
    nodes = world.cluster.get("nodes")["items"]
    if any("nvidia.com/gpu" in node["status"]["capacity"] for node in nodes):
        raise SkipScenario("this cluster has GPUs: their number is not ours to play with")
    traffic = world.traffic(release)
    values = world.values(traffic) | {"gpu": {"enabled": True, "nodeSelector": {}}}
    world.cluster.install(release, values, {"replicaCount": 2})
    wait_until(lambda: len(unplaced(world, release)) == 2, 60, "both wait")
    said = unplaced(world, release)
    world.check("without a GPU both wait, and the events say why",
                all("Insufficient nvidia.com/gpu" in each for each in said), said[0])  # fmt: skip
    (node, *_) = map(name_of, nodes)
    try:
        advertise(world, node, "add")
        wait_until(lambda: len(unplaced(world, release)) == 1, 120, "one is placed", every=1.0)
        placed = [pod for pod in world.cluster.pods(release) if "nodeName" in pod["spec"]]
        world.check("with one GPU one is placed and the other waits", len(placed) == 1)
    finally:
        world.cluster.uninstall(release)
        advertise(world, node, "remove")


def advertise(world: World, node: str, operation: str) -> None:
    """As a device plugin would; a number only."""
    places = ("capacity", "allocatable")
    change = ", ".join(
        f'{{"op": "{operation}", "path": "/status/{place}/nvidia.com~1gpu", "value": "1"}}'
        for place in places
    )
    words = ("patch", "node", node, "--subresource=status", "--type=json", f"-p=[{change}]")
    with contextlib.suppress(CommandError) if operation == "remove" else contextlib.nullcontext():
        world.cluster.kubectl(*words)


def unplaced(world: World, release: str) -> list[str]:
    """Why workers are not placed on a node."""
    return [
        condition.get("message", "")
        for pod in world.cluster.pods(release)
        for condition in pod["status"].get("conditions", [])
        if condition["type"] == "PodScheduled" and condition["status"] == "False"
    ]


def alerts(world: World) -> None:
    """Prometheus finds the pods; TargetDown and Stalled fire when there is cause, and end."""
    if shutil.which("prometheus") is None:
        raise SkipScenario("no prometheus on the PATH (Debian: apt-get install prometheus)")
    release, stalled, down = "alerts", "EmotionWorkerStalled", "EmotionWorkerTargetDown"
    traffic = world.traffic(release)
    world.cluster.apply(hang_map())
    # A deadline so long that the hung worker lives until somebody looks.
    values = world.values(traffic, model={"deadline": 3_600, "threads": 1})
    monitoring = {"podMonitor": {"enabled": True}, "prometheusRule": {"enabled": True}}
    objects = world.cluster.render(release, values, monitoring)
    monitor = one(objects, "PodMonitor")
    rules = [each for each in objects if each["kind"] == "PrometheusRule"]
    world.cluster.install(release, values, {"replicaCount": 2}, hanging())
    world.wait_ready(release, 2)
    pods = list(map(name_of, world.cluster.pods(release)))
    ours = f'{{job="emotion-worker",release="{release}"}}'
    with prometheus(monitor, rules, world.cluster, world.directory) as server:

        def scraped() -> bool:
            up = {labels["pod"] for labels, value in server.now(f"up{ours}") if value}
            return up == set(pods)

        wait_until(scraped, 120, "both are scraped", every=1.0)
        world.check("Prometheus finds the pods as the PodMonitor says", True, ", ".join(pods))
        traffic.send(2_000)
        traffic.wait_done()
        world.check("nothing fires while all is well", not server.firing(release),
                    server.firing(release) or "")  # fmt: skip

        for pod in pods:
            touch(world, pod, "hang")
        begin = time.monotonic()
        traffic.send(2_000)
        wait_until(lambda: stalled in server.firing(release), 1_200, stalled, every=2.0)
        world.check("Stalled fires", True, f"{time.monotonic() - begin:.0f} s after the model hung")
        begin = time.monotonic()
        world.cluster.kubectl("delete", "pod", *pods, "--force", "--grace-period=0")
        world.wait_ready(release, 2)
        traffic.wait_done()
        wait_until(lambda: stalled not in server.firing(release), 600, "its end", every=2.0)
        world.check("Stalled ends", True, f"{time.monotonic() - begin:.0f} s after new pods")

        begin = time.monotonic()
        # Not by replicaCount 0, which is no absence that anybody has to be told of.
        world.cluster.kubectl("scale", f"deployment/{release}-emotion-worker", "--replicas=0")
        wait_until(lambda: down in server.firing(release), 1_200, down, every=2.0)
        world.check("TargetDown fires", True,
                    f"{time.monotonic() - begin:.0f} s after the last went")  # fmt: skip
        begin = time.monotonic()
        world.cluster.install(release, values, {"replicaCount": 2}, hanging())
        wait_until(lambda: down not in server.firing(release), 600, "its end", every=2.0)
        world.check("TargetDown ends", True, f"{time.monotonic() - begin:.0f} s after new pods")
    world.cluster.uninstall(release)


def one(objects: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    (found,) = [each for each in objects if each["kind"] == kind]
    return found


def hang_map() -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "hang"},
        "data": {"sitecustomize.py": HANG},
    }


def hanging() -> dict[str, Any]:
    """Values of a worker whose model hangs when a file says so."""
    return {
        "extraVolumes": [{"name": "hang", "configMap": {"name": "hang"}}],
        "extraVolumeMounts": [{"name": "hang", "mountPath": "/hang", "readOnly": True}],
        "extraEnv": [{"name": "PYTHONPATH", "value": "/hang:/opt/app"}],
    }


def touch(world: World, pod: str, name: str) -> None:
    world.cluster.kubectl("exec", pod, "--", "touch", f"/tmp/{name}")


def wait_restarts(world: World, release: str, count: int) -> None:
    def restarted() -> bool:
        return any(restarts(pod) >= count for pod in world.cluster.pods(release))

    wait_until(restarted, 300, f"{release}: started again", every=1.0)


ALL = (train, label, disrupt, keda, health, gpu, alerts)

"""From the chart before to this one, and back, while messages flow."""

import time
from collections.abc import Callable
from typing import Any

from tests.deploy.cluster.kube import CommandError, name_of, selector
from tests.deploy.cluster.scenarios import RATE, STREAM
from tests.deploy.cluster.traffic import Traffic
from tests.deploy.cluster.world import SkipScenario, World
from tests.support.kafka_helpers import wait_until

MODES = {"upgrade": "exactly_once", "upgrade-often": "at_least_once"}


def upgrade(world: World) -> None:
    """From the chart before to this one in mid-stream, and back: nothing is labelled again."""
    if world.chart_before is None:
        raise SkipScenario("no --chart-before")
    if world.broker is None:
        raise SkipScenario("the chart's own group may be in use in a Kafka that is not ours")
    for release, guarantee in MODES.items():
        traffic = world.traffic(release)
        values = world.values(traffic, delivery={"guarantee": guarantee})
        del values["settings"]["kafka"]["group_id"]  # whoever took the default
        world.cluster.install(release, values, {"replicaCount": 2}, chart=world.chart_before)
        group = traffic.group = group_of(world, release)
        world.wait_ready(release, 2)
        in_stream(
            world, release, traffic, "helm upgrade from the chart before",
            lambda r=release, v=values, g=group: install_this(world, r, v, g),
        )  # fmt: skip
        in_stream(
            world, release, traffic, "helm rollback to it",
            lambda r=release: world.cluster.roll_back(r),
        )  # fmt: skip
        world.cluster.uninstall(release)


def group_of(world: World, release: str) -> str:
    """The group that a release's workers are told."""
    maps = world.cluster.get("configmaps", "-l", f"app.kubernetes.io/instance={release}")["items"]
    (found,) = {each["data"].get("WORKER_KAFKA__GROUP_ID") for each in maps} - {None}
    return str(found)


def install_this(world: World, release: str, values: dict[str, Any], group: str) -> None:
    """The chart of this repository, in the same group: which is kept, or has to be named."""
    replicas = {"replicaCount": 2}
    try:
        world.cluster.install(release, values, replicas)
    except CommandError as error:
        line = next((line for line in str(error).splitlines() if "group_id" in line), str(error))
        world.check(f"{release}: refused without a group, with the one to set", group in line, line)
        named = {"settings": {"kafka": {"group_id": group}}}
        world.cluster.install(release, values, replicas, named)


def in_stream(
    world: World, release: str, traffic: Traffic, what: str, act: Callable[[], object]
) -> None:
    """Does it in mid-stream, and counts what became of the messages."""
    begin, sent = time.monotonic(), traffic.sent
    with traffic.flowing(STREAM, RATE):
        wait_until(lambda: traffic.sent > sent + STREAM // 4, 120, "a quarter is sent")
        before = {pod["metadata"]["uid"] for pod in world.cluster.pods(release)}
        acted = time.monotonic()
        act()
        (found,) = world.cluster.get("statefulsets,deployments", *selector(release))["items"]
        workload = f"{found['kind'].lower()}/{name_of(found)}"
        words = ("rollout", "status", workload, "--timeout=280s")
        world.cluster.kubectl(*words, timeout=300)
        seconds = time.monotonic() - acted
        after = {pod["metadata"]["uid"] for pod in world.cluster.pods(release)}
        world.check(f"{release}: {what}: both workers are replaced in mid-stream",
                    not before & after, f"{seconds:.0f} s")  # fmt: skip
    world.wait_ready(release, 2)
    traffic.wait_done(600)
    verdict = traffic.verdict()
    held = verdict.exactly_once if MODES[release] == "exactly_once" else not verdict.missing
    told = "0 missing, 0 doubled" if MODES[release] == "exactly_once" else "0 missing"
    world.check(f"{release}: {what}: {told}", held,
                f"{verdict}; {time.monotonic() - begin:.0f} s")  # fmt: skip

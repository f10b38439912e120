"""The documents' tables of what the benchmarks found, from `tests/benchmarks/results`."""

from tests.benchmarks import (
    abstaining,
    growth,
    latency,
    load,
    outside,
    processes,
    recipes,
    rows,
    simulated,
    steps,
)
from tests.benchmarks.circumstances import line
from tests.benchmarks.contest import figures
from tests.benchmarks.contest.environment import NAMED
from tests.benchmarks.contest.figures import Damage
from tests.benchmarks.hostpath import report as hostpath
from tests.benchmarks.results import KEPT, kept


def _contest(found):
    return figures.speed_table(found["titles"], found["rates"], found["agreement"], base="worker")


def _kills(found):
    damage = {name: Damage(**each) for name, each in found["damage"].items()}
    return figures.kill_table(found["titles"], damage)


_REPORTS = {
    "contest-bfloat16": _contest,
    "contest-float32": _contest,
    "kills-bfloat16": _kills,
    "kills-float32": _kills,
    "steps": steps.report,
    "hostpath": lambda found: f"{hostpath.rates(found)}\n\n{hostpath.stages(found)}",
    "simulated": simulated.report,
    "processes": processes.report,
    "rows": rows.report,
    "growth": growth.report,
    "load-simulated": load.report,
    "load-real": load.report,
    "latency": latency.report,
    "outside": outside.report,
    "recipes": recipes.report,
    "abstaining": abstaining.report,
}


def tables() -> dict[str, str]:
    """By name: when and where it was measured, and the table."""
    return {
        f"results {name}": _table(name) for name in _REPORTS if (KEPT / f"{name}.json").exists()
    }


def _table(name: str) -> str:
    found = kept(name)
    told = found["circumstances"]
    baselines = told.get("versions_of_the_baselines", {})
    others = {each: baselines[each] for each in NAMED if each in baselines}
    return f"{line(told, **others)}.\n\n{_REPORTS[name](found)}"

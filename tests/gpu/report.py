"""What the kit found, for people: `report.md`, and a plot of rates over token budgets."""

import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.benchmarks.circumstances import line
from tests.benchmarks.results import table

Found = dict[str, Any]


def write(found: Found, folder: Path) -> None:
    """Writes both files."""
    (folder / "report.md").write_text(text(found), encoding="utf-8")
    rows = found["stages"].get("model", {}).get("rows", [])
    if rows:
        plot(rows, folder / "model.png")


def text(found: Found) -> str:
    """The whole report."""
    mark = found["mark"]
    parts = [f"# On a GPU\n\n{line(found['circumstances'])}."]
    if mark["device"] == "cpu":
        parts.append("**Not a measurement**: a tiny run on the CPU, to see that all of it works.")
    for name, one in found["stages"].items():
        parts.append(f"## {name}, {one['seconds']:.0f} s")
        if "error" in one:
            parts.append(f"**It {one['error']}.**")
        if "card" in one:
            parts.append(", ".join(f"{what} {value}" for what, value in one["card"].items()))
        if set(one) - {"seconds", "states", "error"}:
            parts.append(_PARTS[name](one))
        if one["states"]:
            parts.append(
                "The card meanwhile (least, median, greatest): "
                + "; ".join(
                    f"{what} {', '.join(f'{value:.0f}' for value in values)}"
                    for what, values in one["states"].items()
                )
            )
    return "\n\n".join(parts) + "\n"


def tests(one: Found) -> str:
    return ", ".join(f"{one[what]} {what}" for what in ("passed", "skipped") if what in one)


def model(one: Found) -> str:
    head = ["shape", "texts", "way", "precision", "budget", "messages/s", "tokens/s", "TFLOP/s",
            "of the peak", "padded", "tokens a batch", "ms a batch", "first", "MB"]  # fmt: skip
    rows = []
    for row in one["rows"]:
        first = [row["shape"], row.get("texts", ""), row["way"], row.get("dtype", "")]
        first.append(f"{row.get('budget', 0):,}")
        if "error" in row:
            rows.append([*first, row["error"].replace("|", "/"), *[""] * 8])
            continue
        share = row["tflops"] / one["peak_tflops"]
        rows.append(
            [
                *first, f"{row['messages_per_s']:,.0f}", f"{row['tokens_per_s']:,.0f}",
                f"{row['tflops']:.2f}", f"{share:.0%}", f"{row['padding']:.2f}",
                f"{row['batch_tokens']:,.0f}", f"{row['batch_ms']:.1f}", f"{row['first_ms']:.1f}",
                f"{row['memory_mb']:,.0f}",
            ]
        )  # fmt: skip
    ways = [
        [
            way, f"{one['lone_ms'][way]:.1f}", f"{value['score']:.4f}", f"{value['labels']:.4f}",
        ]
        for way, value in one["apart"].items()
    ]  # fmt: skip
    alone = ["shape and way", "a lone message, ms", "scores from float32's, at most", "same labels"]
    peak = f"The peak of a large product: {one['peak_tflops']:.2f} TFLOP/s"
    return f"{peak}.\n\n{table(alone, ways)}\n\n{table(head, rows)}"


def rivals(one: Found) -> str:
    rows = []
    for shape, ways in one["rates"].items():
        ours = next(iter(ways.values()))
        for way, rates in ways.items():
            ratios = [first / rate for first, rate in zip(ours, rates, strict=True)]
            rate, ratio = statistics.median(rates), statistics.median(ratios)
            rows.append([shape, way, f"{rate:,.0f}", f"{ratio:.2f}"])
    errors = "".join(f"\n\n{way}: {error}" for way, error in one["errors"].items())
    head = ["shape", "way", "messages/s", "the worker's rate to it"]
    return f"{table(head, rows)}{errors}"


def worker(one: Found) -> str:
    backlogs = [
        [
            row["guarantee"], str(row["processes"]), f"{row['messages_per_s']:,.0f}",
            ", ".join(f"{share:.0%}" for share in row["busy"]), f"{row['device_mb']:,.0f}",
            f"{row['resident_mb']:,.0f}",
        ]
        for row in one["backlogs"]
    ]  # fmt: skip
    loads = [
        [
            row["guarantee"], f"{row['asked']:,.0f}", f"{row['sent_per_s']:,.0f}",
            *(f"{row[what]:.0f}" for what in ("p50", "p95", "p99")), f"{row['pass_ms']:.1f}",
        ]
        for row in one["steady"]
    ]  # fmt: skip
    head = ["guarantee", "processes", "messages/s", "models busy", "device MB", "resident MB"]
    steady = ["guarantee", "asked/s", "sent/s", "p50, ms", "p95", "p99", "a batch, ms"]
    return (
        f"{one['shape']}, {one['cores']} cores.\n\n{table(head, backlogs)}\n\n"
        f"One worker under half of its rate:\n\n{table(steady, loads)}"
    )


def training(one: Found) -> str:
    rows = [[name, f"{rate:,.0f}"] for name, rate in one["rates"].items()]
    rows.append(["the notebook, on its GPU", f"{one['notebook']:,.1f}"])
    found = table(["way", "samples/s"], rows)
    whole = one.get("whole")
    if whole is None:
        return found
    accuracy = ", ".join(
        f"{split} {figures['accuracy']:.4f}" for split, figures in whole["metrics"].items()
    )
    return (
        f"{found}\n\nThe packaged encoder on {whole['dataset']['name']}: {whole['seconds']:.0f} s, "
        f"accuracy {accuracy}."
    )


_PARTS: dict[str, Callable[[Found], str]] = {
    "tests": tests,
    "model": model,
    "rivals": rivals,
    "worker": worker,
    "training": training,
}


def plot(rows: list[Found], path: Path) -> None:
    """Messages/s over token budgets, a panel for each kind of texts."""
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    kinds = list(dict.fromkeys(row["texts"] for row in rows if "texts" in row))
    if not kinds:
        return
    figure, panels = plt.subplots(
        1, len(kinds), figsize=(6 * len(kinds), 4.5), squeeze=False, layout="constrained"
    )
    for panel, kind in zip(panels[0], kinds, strict=True):
        lines: dict[str, list[tuple[int, float]]] = {}
        for row in rows:
            if row.get("texts") == kind and "error" not in row:
                name = f"{row['shape']}, {row['way']}"
                lines.setdefault(name, []).append((row["budget"], row["messages_per_s"]))
        for name, points in lines.items():
            panel.plot(*zip(*points, strict=True), marker="o", label=name)
        panel.set(title=kind, xlabel="tokens of a batch", ylabel="messages/s", xscale="log",
                  yscale="log")  # fmt: skip
        panel.grid(visible=True, which="major", alpha=0.3)
        panel.legend(fontsize="small")
    figure.savefig(path, dpi=110)
    plt.close(figure)

"""README's tables, made from the code they speak of: `make readme` writes them, a test compares.

A table stands between `<!-- NAME -->` and `<!-- /NAME -->`.
"""

import re
import typing
from pathlib import Path

from prometheus_client import CollectorRegistry
from pydantic import BaseModel

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"


def tables():
    return {
        "worker settings": _worker_settings(),
        "train settings": _train_settings(),
        "metrics": _metrics(),
    }


def current(text, name):
    """What stands between a table's marks."""
    found = re.search(rf"<!-- {name} -->\n(.*?)\n?<!-- /{name} -->", text, re.DOTALL)
    assert found, f"README.md has no <!-- {name} -->"
    return found[1]


def write():
    text = README.read_text()
    for name, table in tables().items():
        marks = f"<!-- {name} -->\n", f"\n<!-- /{name} -->"
        before, _, rest = text.partition(marks[0])
        _, _, after = rest.partition(marks[1].lstrip("\n"))
        text = before + marks[0] + table + marks[1] + after
    README.write_text(text)


def _row(*cells):
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _worker_settings():
    from worker.settings import Settings

    rows = [_row("variable", "default", "meaning"), _row("---", "---", "---")]
    for group, field in Settings.model_fields.items():
        for name, knob in field.annotation.model_fields.items():
            variable = f"`WORKER_{group}__{name}`".upper()
            rows.append(_row(variable, _default(knob), _meaning(knob)))
    return "\n".join(rows)


def _train_settings():
    from train.settings import EvaluateSettings, PredictSettings, RunSettings

    rows = [_row("command", "option", "default", "meaning"), _row("---", "---", "---", "---")]
    for command, model in (
        ("run", RunSettings),
        ("evaluate", EvaluateSettings),
        ("predict", PredictSettings),
    ):
        for name, knob in model.model_fields.items():
            option = (knob.validation_alias or knob.alias or name) if knob else name
            option = option if isinstance(option, str) else option.choices[0]
            if option == "texts":
                continue
            rows.append(
                _row(
                    f"`{command}`",
                    f"`--{option.replace('_', '-')}`",
                    _default(knob),
                    _meaning(knob),
                )
            )
    return "\n".join(rows)


def _default(knob):
    if knob.is_required():
        return "required"
    default = knob.get_default(call_default_factory=True)
    if default is None or default == "":
        return ""
    if isinstance(default, BaseModel):
        raise TypeError(default)
    return f"`{default:g}`" if isinstance(default, float) else f"`{default}`"


def _meaning(knob):
    text = " ".join((knob.description or "").split())
    allowed = _choices(knob.annotation)
    missing = [choice for choice in allowed if f"`{choice}`" not in text]
    return text + (f" One of {', '.join(f'`{c}`' for c in allowed)}." if missing else "")


def _choices(annotation):
    if typing.get_origin(annotation) is typing.Literal:
        return list(typing.get_args(annotation))
    return [choice for part in typing.get_args(annotation) for choice in _choices(part)]


def metric_families():
    """Every instrument of the worker: name, type, labels, help."""
    from worker.metrics import Metrics

    registry = CollectorRegistry()
    metrics = Metrics(
        input_topic="in", output_topic="out", dlq_topic="dlq", version="0", registry=registry
    )
    metrics.model_loaded(
        name="m", version="0", labels=("a", "b"), device="cpu", dtype="float32", shares=None
    )
    found = []
    for instrument in vars(metrics).values():
        if hasattr(instrument, "_labelnames"):
            (family,) = instrument.describe()
            suffix = {"counter": "_total", "info": "_info"}.get(family.type, "")
            found.append(
                (family.name + suffix, family.type, instrument._labelnames, family.documentation)
            )
    found.append(("worker_build_info", "info", ("version", "python"), "The program."))
    return sorted(found)


def _metrics():
    rows = [_row("metric", "type", "labels", "meaning"), _row("---", "---", "---", "---")]
    rows += [
        _row(f"`{name}`", kind, ", ".join(labels), text)
        for name, kind, labels, text in metric_families()
    ]
    return "\n".join(rows)


if __name__ == "__main__":
    write()

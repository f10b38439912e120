"""The documents, and their tables, which are made from the code: `make readme` writes them.

A table stands between `<!-- NAME -->` and `<!-- /NAME -->`, in whichever document has these marks.
"""

import re
import typing
from pathlib import Path

from prometheus_client import CollectorRegistry
from pydantic import BaseModel

from tests.benchmarks import documents as results

ROOT = Path(__file__).resolve().parents[2]
_FOLDERS = (".", ".github", "worker", "train", "train/data", "deploy", "tests")


def tables():
    return {
        "worker settings": _worker_settings(),
        "train settings": _train_settings(),
        "recipes": _recipes(),
        "metrics": _metrics(),
        **results.tables(),
    }


def documents():
    """Every page of the project's documentation, by its path in the repository."""
    pages = [page for folder in _FOLDERS for page in sorted((ROOT / folder).glob("*.md"))]
    return {page.relative_to(ROOT).as_posix(): page.read_text(encoding="utf-8") for page in pages}


def holder(name):
    """The path of the one document that has these marks."""
    found = [path for path, text in documents().items() if f"<!-- {name} -->" in text]
    assert len(found) == 1, f"<!-- {name} --> is in {found or 'no document'}: it must be in one"
    return found[0]


def current(name):
    """What stands between these marks."""
    text = documents()[holder(name)]
    found = re.search(rf"<!-- {name} -->\n(.*?)\n?<!-- /{name} -->", text, re.DOTALL)
    assert found, f"<!-- {name} --> has no end"
    return found[1]


def anchors(text):
    """What a link to a heading of this text ends in, as GitHub makes it."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.+)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def write():
    for name, table in tables().items():
        path = ROOT / holder(name)
        begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        before, _, rest = path.read_text(encoding="utf-8").partition(begin)
        _, _, after = rest.partition(end)
        path.write_text(f"{before}{begin}{table}\n{end}{after}", encoding="utf-8")


def _row(*cells):
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _worker_settings():
    from worker.settings import Settings

    rows = [_row("variable", "default", "meaning"), _row("---", "---", "---")]
    for group, field in Settings.model_fields.items():
        if not issubclass(field.annotation, BaseModel):
            rows.append(_row(f"`WORKER_{group}`".upper(), _default(field), _meaning(field)))
            continue
        for name, knob in field.annotation.model_fields.items():
            variable = f"`WORKER_{group}__{name}`".upper()
            rows.append(_row(variable, _default(knob), _meaning(knob)))
    return "\n".join(rows)


def _recipes():
    from train.recipes import RECIPES
    from train.settings import RunSettings

    names = sorted({name for each in RECIPES.values() for name in each})
    fields = {name: RunSettings.model_fields[name].default for name in names}
    lines = [
        _row(
            f"`--{name.replace('_', '-')}`",
            *(f"{each.get(name, fields[name]):g}" for each in RECIPES.values()),
        )
        for name in names
    ]
    heads = ["option", *(f"`{name}`" for name in RECIPES)]
    return "\n".join([_row(*heads), _row(*["---"] * len(heads)), *lines])


def _train_settings():
    from train.settings import COMMANDS

    rows = [_row("command", "option", "default", "meaning"), _row("---", "---", "---", "---")]
    for command, model in COMMANDS.items():
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
    from worker.processes.metrics import ProcessMetrics

    registry = CollectorRegistry()
    metrics = Metrics(
        input_topic="in", output_topic="out", dlq_topic="dlq", version="0", registry=registry
    )
    metrics.model_loaded(
        name="m",
        version="0",
        labels=("a", "b"),
        device="cpu",
        dtype="float32",
        rows="padded",
        shares=None,
    )
    found = []
    for instrument in (*vars(metrics).values(), *vars(ProcessMetrics(1)).values()):
        labels = getattr(instrument, "_labelnames", getattr(instrument, "labelnames", None))
        if labels is not None:
            (family,) = instrument.describe()
            suffix = {"counter": "_total", "info": "_info"}.get(family.type, "")
            found.append((family.name + suffix, family.type, labels, family.documentation))
    (build,) = (family for family in registry.collect() if family.name == "worker_build")
    found.append(("worker_build_info", "info", tuple(build.samples[0].labels), build.documentation))
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

"""The dashboard: what its builder makes, as specified, valid for Grafana, and true to the worker.

Whether its expressions find data is in test_observed.py.
"""

import enum
import json
import re
import subprocess
import typing
from collections import Counter

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models import units

from deploy.grafana import dashboard
from tests.deploy import promql
from tests.deploy.board import FILE, board, expressions, filled, notes, panels, rows
from tests.deploy.test_rules import RULES

OF_THE_SOURCE = {"titleFormat", "textFormat", "tagKeys", "step"}
"""What Grafana's Prometheus source reads of an annotation, and its dashboard schema leaves open."""
SYNTHETIC = {"ALERTS"}


def each_panel():
    return pytest.mark.parametrize("panel", panels(), ids=lambda panel: panel["title"])


def test_the_file_is_what_the_builder_makes():
    assert FILE.read_text() == dashboard.text(), "run: make dashboard"


def test_its_head_is_as_specified():
    found = board()
    assert 39 <= found["schemaVersion"] <= 41
    assert found["uid"] == "emotion-worker"
    assert "id" not in found  # another dashboard's in another Grafana
    assert found["editable"] is False
    assert found["refresh"] == "30s"
    assert found["time"] == {"from": "now-3h", "to": "now"}


def test_its_rows_come_in_the_order_of_the_questions():
    assert list(rows()) == ["Overview", "Pipeline", "Latency", "GPU", "Kafka", "Model quality"]
    assert all(rows().values())


def test_its_variables_are_as_specified_and_ask_the_chosen_source():
    found = board()["templating"]["list"]
    assert [each["name"] for each in found] == [
        "datasource", "namespace", "job", "release", "instance", "topic",
    ]  # fmt: skip
    source, *others = found
    assert (source["type"], source["query"]) == ("datasource", "prometheus")
    for each in others:
        assert each["type"] == "query"
        assert each["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        wanted = rf"label_values\((\w+)(\{{.*\}})?, {each['name']}\)"
        asked = re.fullmatch(wanted, each["query"]["query"])
        assert asked, each["query"]
        assert asked[1] in promql.known()
        assert each["refresh"] == 2  # with the time range: pods come and go


def test_the_job_is_never_every_job_since_up_has_all_of_them():
    (job,) = (each for each in board()["templating"]["list"] if each["name"] == "job")
    assert not job["includeAll"]
    assert not job["multi"]
    assert job["current"]["value"] == "emotion-worker"


def test_deployments_are_annotated_from_what_workers_say_they_run():
    asked = [promql.metrics(filled(note["expr"])) for note in notes()]
    assert asked == [{"worker_model_info"}, {"worker_build_info"}]
    assert all(note["enable"] and note["titleFormat"] for note in notes())


@each_panel()
def test_a_panel_says_what_it_shows(panel):
    assert panel["title"]
    assert len(panel["description"]) > 30
    assert panel["description"].rstrip().endswith(".")
    known = {value for name, value in vars(units).items() if isinstance(value, str)}
    assert panel["fieldConfig"]["defaults"]["unit"] in known
    assert panel["targets"]
    assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    references = [target["refId"] for target in panel["targets"]]
    assert len(set(references)) == len(references)
    for target in panel["targets"]:
        assert target["datasource"] == panel["datasource"]
        assert target["instant"] != target["range"]


@pytest.mark.parametrize(("asker", "expr"), expressions())
def test_an_expression_follows_the_variables(asker, expr):
    for name, matchers in promql.selectors(expr.replace("$__r", "r")):
        assert 'namespace=~"$namespace"' in matchers, name
        assert 'job=~"$job"' in matchers, name
        assert 'release=~"$release"' in matchers, name
        group_wide = name.startswith("group:") or name in ("up", "ALERTS")
        assert ('instance=~"$instance"' in matchers) != group_wide, name
    for found in re.finditer(r"\b(rate|irate|deriv|delta|increase|changes)\(", expr):
        window = re.search(r"\[(.*?)\]", expr[found.start() :])[1]
        whole = {"increase": "$__range", "changes": "$__range"}  # a total of the time shown
        assert window in ("$__rate_interval", whole.get(found[1])), expr


@pytest.mark.parametrize(("asker", "expr"), expressions())
def test_an_expression_names_only_what_there_is(asker, expr):
    recorded = {
        rule["record"]
        for group in yaml.safe_load(RULES.read_text())["groups"]
        for rule in group["rules"]
        if "record" in rule
    }
    known = promql.known() | promql.RULES_OWN | recorded | SYNTHETIC
    assert promql.metrics(filled(expr)) <= known


def test_every_metric_of_the_worker_is_shown():
    shown = set().union(*(promql.metrics(filled(expr)) for _, expr in expressions()))
    assert promql.known() <= shown


@pytest.mark.tool("promtool")
def test_every_expression_is_one(tmp_path):
    rules = [
        {"record": f"panel:{number}", "expr": filled(expr)}
        for number, (_, expr) in enumerate(expressions())
    ]
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    done = subprocess.run(
        ["promtool", "check", "rules", "--lint=none", str(file)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(rules)} rules found" in done.stdout


def test_a_legend_names_labels_that_its_expression_keeps():
    for panel in panels():
        for target in panel["targets"]:
            wanted = set(re.findall(r"\{\{(\w+)\}\}", target.get("legendFormat", "")))
            kept = re.findall(r"\bby \(([^)]*)\)", target["expr"])
            assert all(wanted <= set(re.split(r",\s*", labels)) for labels in kept), target


def test_panels_and_ids_are_unique():
    titles = Counter(panel["title"] for panel in board()["panels"])
    assert titles.most_common(1)[0][1] == 1
    numbers = Counter(panel["id"] for panel in board()["panels"])
    assert numbers.most_common(1)[0][1] == 1


def test_panels_fill_the_grid_without_holes_and_overlaps():
    cells = Counter(
        (x, y)
        for panel in board()["panels"]
        for at in [panel["gridPos"]]
        for x in range(at["x"], at["x"] + at["w"])
        for y in range(at["y"], at["y"] + at["h"])
    )
    bottom = max(y for _, y in cells) + 1
    assert cells == Counter({(x, y): 1 for x in range(24) for y in range(bottom)})


def test_grafana_s_own_models_know_every_field_and_take_every_value():
    register_default_plugins()
    found = board()
    for note in found["annotations"]["list"]:
        assert set(note) >= OF_THE_SOURCE
        for name in OF_THE_SOURCE:
            del note[name]
    loaded = model.Dashboard.from_json(found)
    # The models drop what they do not know, and check no type: hence both.
    assert list(lost(found, json.loads(JSONEncoder().encode(loaded)))) == []
    assert list(misfits(loaded)) == []


def test_a_field_that_grafana_does_not_know_and_a_wrong_value_would_be_found():
    register_default_plugins()
    found = board()
    panel = found["panels"][1]
    panel["options"]["grafMode"] = "area"
    panel["gridPos"]["w"] = "4"
    panel["fieldConfig"]["defaults"]["thresholds"]["mode"] = "absolut"
    panel["options"]["graphMode"] = "areas"
    loaded = model.Dashboard.from_json(found)
    back = json.loads(JSONEncoder().encode(loaded))
    assert "dashboard.panels[1].options.grafMode" in lost(found, back)
    wrong = [where.rpartition(".")[2] for where, _ in misfits(loaded)]
    assert sorted(wrong) == ["graph_mode", "mode", "w"]


def lost(value, back, where="dashboard"):
    """What is in a value and not, or not so, in another."""
    if isinstance(value, dict) and isinstance(back, dict):
        for name, part in value.items():
            if name in back:
                yield from lost(part, back[name], f"{where}.{name}")
            else:
                yield f"{where}.{name}"
    elif isinstance(value, list) and isinstance(back, list) and len(value) == len(back):
        for number, (part, other) in enumerate(zip(value, back, strict=True)):
            yield from lost(part, other, f"{where}[{number}]")
    elif value != back:
        yield where


def misfits(value, where="dashboard"):
    """Attributes of the models that are not of the type they are declared with."""
    if isinstance(value, list | dict):
        parts = value.items() if isinstance(value, dict) else enumerate(value)
        for name, part in parts:
            yield from misfits(part, f"{where}[{name!r}]")
    elif hasattr(value, "to_json"):
        hints = typing.get_type_hints(type(value).__init__)
        for name, hint in hints.items() - {("return", type(None))}:
            part = getattr(value, name)
            if name == "transformations":  # the one field that the models leave as it came
                part = part and [model.DataTransformerConfig.from_json(each) for each in part]
            if not fits(part, hint):
                yield f"{where}.{name}", part
            yield from misfits(part, f"{where}.{name}")


def fits(value, hint):
    kind, arguments = typing.get_origin(hint) or hint, typing.get_args(hint)
    if kind is typing.Union:
        return any(fits(value, each) for each in arguments)
    if kind in (list, dict):
        parts = value.values() if isinstance(value, dict) else value
        return isinstance(value, kind) and all(fits(part, arguments[-1]) for part in parts)
    if kind is typing.Literal:
        return value in arguments
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return value in [each.value for each in kind]
    number = {int: int, float: int | float}.get(kind)
    return kind is typing.Any or (
        isinstance(value, number) and not isinstance(value, bool)
        if number
        else isinstance(value, kind)
    )

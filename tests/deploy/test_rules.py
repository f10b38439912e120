"""Recording and alerting rules: valid, complete, tested in every case, true to worker and runbook.

What the alerts do is in rules/*.yaml, which promtool runs.
"""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.deploy import promql
from tests.deploy.board import rows
from tests.tools.tables import anchors, documents
from worker.errors import REASONS
from worker.records import ABSTAIN_REASONS
from worker.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "deploy" / "helm" / "emotion-worker" / "files" / "rules.yaml"
RELEASE = RULES.with_name("release.yaml")
RUNBOOKS = ROOT / "deploy" / "runbooks.md"
CASES = sorted((Path(__file__).parent / "rules").glob("*.yaml"))
RUNBOOK_URL = "https://github.com/emotion-stream/emotion-stream/blob/main/deploy/runbooks.md#"
PREFIX = "EmotionWorker"
"""Of every alert: kube-prometheus has a TargetDown, and others may have the rest."""
ALERTS = {
    PREFIX + name
    for name in (
        "TargetDown", "Stalled", "GroupLagNoConsumers", "BacklogDrainSlow",
        "DeadLetterRatioHigh", "LatencyP99High", "OutOfMemory", "GpuIdleWithBacklog",
        "RebalanceStorm", "MixedModels", "PredictionDrift", "RecordsExpired",
        "BreakerOpen", "HangingTransaction", "OutputsRefused", "LagWithoutProgress",
        "LatencyBudgetBurn", "DeadLetterBudgetBurn", "ProcessRestarts",
        "DeviceLost", "GpuThrottled", "AbstainedRatioHigh",
    )
}  # fmt: skip
# In the form of a setting: Kafka's, and a field of the output.
NOT_SETTINGS = {
    ("retention", "ms"), ("retention", "bytes"), ("model", "version"), ("advertised", "listeners"),
}  # fmt: skip

OF_THE_RELEASE = {"group:worker_replicas:expected", "group:worker_lag_records:outside"}
"""Series that each release of the chart records: files/release.yaml."""

needs_promtool = pytest.mark.tool("promtool")


def groups():
    return {group["name"]: group["rules"] for group in yaml.safe_load(RULES.read_text())["groups"]}


def rules():
    return [rule for rules in groups().values() for rule in rules]


def alerts():
    return [rule for rule in rules() if "alert" in rule]


def each_alert():
    return pytest.mark.parametrize(
        "alert", alerts(), ids=lambda alert: f"{alert['alert']}: {alert['annotations']['summary']}"
    )


@needs_promtool
def test_promtool_finds_nothing_to_mend():
    done = promtool("check", "rules", "--lint=all", "--lint-fatal", str(RULES))
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"SUCCESS: {len(rules())} rules found" in done.stdout


@needs_promtool
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_alerts_do_what_their_cases_say(case):
    done = promtool("test", "rules", str(case))
    assert done.returncode == 0, done.stdout + done.stderr


def test_there_is_every_alert_and_no_other():
    assert {alert["alert"] for alert in alerts()} == ALERTS


def test_the_documents_count_the_alerts():
    counts = {count for text in documents().values() for count in re.findall(r"(\d+) alerts", text)}
    assert counts == {str(len(ALERTS))}


def test_what_asks_for_absence_stands_apart_and_asks_for_each_release_and_namespace():
    found = groups()
    assert list(found) == [
        "emotion-worker.recording", "emotion-worker.alerts", "emotion-worker.presence",
    ]  # fmt: skip
    for name, members in found.items():
        for rule in members:
            asks = name == "emotion-worker.presence"
            assert ("absent(" in rule["expr"]) == asks, rule
            assert ("record" in rule) == (name == "emotion-worker.recording"), rule
            if asks:
                each = "unless on (namespace, job, release)"
                assert (
                    f'group:worker_replicas:expected{{job="emotion-worker"}} > 0\n{each}'
                    in (rule["expr"])
                )


def test_a_release_says_what_the_rules_read_of_it_and_nothing_else():
    (group,) = yaml.safe_load(RELEASE.read_text())["groups"]
    said = {rule["record"] for rule in group["rules"]}
    assert said == OF_THE_RELEASE
    for name in said:
        assert [rule for rule in rules() if name in rule["expr"]]
    for rule in group["rules"]:
        assert set(rule["labels"]) == {"job", "namespace", "release"}


@each_alert()
def test_an_alert_says_all_that_it_has_to(alert):
    assert re.fullmatch(r"[1-9]\d*m", alert["for"])
    assert alert["labels"]["severity"] in ("critical", "warning", "info")  # kube-prometheus'
    assert set(alert["annotations"]) == {"summary", "description", "runbook_url"}
    assert len(alert["annotations"]["summary"]) <= 90
    text = alert["annotations"]["description"]
    assert text.endswith(".")
    # absent() has no value, and BreakerOpen's is always 1.
    has_value = "absent(" not in alert["expr"] and alert["alert"] != f"{PREFIX}BreakerOpen"
    assert ("$value" in text) == has_value


@each_alert()
def test_an_alert_leads_to_its_section_of_the_runbook(alert):
    url = alert["annotations"]["runbook_url"]
    assert url == RUNBOOK_URL + alert["alert"].lower()
    assert url.removeprefix(RUNBOOK_URL) in anchors(RUNBOOKS.read_text())


@each_alert()
def test_an_alert_has_a_case_for_firing_for_silence_before_and_for_its_end(alert):
    assert any(
        waits == fires - 1 and resolved > fires for waits, fires, resolved in cases_of(alert)
    ), f"no case of {alert['annotations']['summary']!r} waits, fires a minute later and resolves"


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.get("alert") or rule["record"])
def test_a_rule_reads_what_there_is(rule):
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    known = promql.known() | promql.RULES_OWN | recorded | OF_THE_RELEASE
    assert promql.metrics(rule["expr"]) <= known


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.get("alert") or rule["record"])
def test_a_rule_reads_no_other_program(rule):
    for name, matchers in promql.selectors(rule["expr"]):
        recorded_here = name.startswith("group:") and "record" in rule
        assert recorded_here or 'job="emotion-worker"' in matchers, name


@pytest.mark.parametrize("name", sorted(ALERTS))
def test_a_section_of_the_runbook_answers_every_question(name):
    section = sections()[name]
    parts = re.findall(r"^\*\*(.+?)\*\*", section, re.MULTILINE)
    assert [part.rstrip(".") for part in parts] == [
        "What it means", "What users see", "What to do first", "Causes seen", "What to do",
        "It is over when",
    ]  # fmt: skip
    _, look, rest = re.split(r"\*\*What to do first\.\*\*|\*\*Causes seen\.\*\*", section)
    assert panels_named(look), "a panel to look at"
    assert re.search(r"```sh\n.+\n```", look, re.DOTALL), "a command"
    assert len(rest) > 300


def test_the_runbook_has_sections_for_alerts_and_operations_only():
    assert set(sections()) == ALERTS | {"Operations"}


def test_the_runbook_names_panels_that_there_are_in_their_rows():
    titles = {panel["title"]: row for row, members in rows().items() for panel in members}
    text = RUNBOOKS.read_text() + documents()["deploy/README.md"]
    for title, row in panels_named(text):
        assert title in titles
        assert row in ("", titles[title]), f"{title} is in row {titles[title]}"


def test_the_runbook_names_events_metrics_and_settings_that_there_are():
    words = set(re.findall(r"`(worker_[a-z_]+|[a-z]+(?:_[a-z]+)+)`", RUNBOOKS.read_text()))
    kafkas = {"read_committed", "read_uncommitted"}
    assert words <= events() | promql.known() | {*REASONS, *ABSTAIN_REASONS} | kafkas
    knobs = re.findall(r"`([a-z]+)\.([a-zA-Z_]+)`", RUNBOOKS.read_text())
    named = [(group, knob) for group, knob in knobs if (group, knob) not in NOT_SETTINGS]
    values = yaml.safe_load((RULES.parents[1] / "values.yaml").read_text())
    settings = 0
    for group, knob in named:
        if group in Settings.model_fields:
            assert knob in Settings.model_fields[group].annotation.model_fields, f"{group}.{knob}"
            settings += 1
        else:
            assert knob in values[group], f"{group}.{knob}"
    assert settings > 10


def test_a_recorded_series_is_read_by_a_rule_or_a_panel():
    dashboard = RULES.with_name("dashboard.json").read_text()
    for rule in rules():
        if "record" in rule:
            readers = [other for other in rules() if rule["record"] in other["expr"]]
            assert readers or rule["record"] in dashboard, rule["record"]


def test_what_an_expression_names_is_found():
    expr = """
        sum by (le, topic) (rate(worker_batch_records_bucket{job="a}b", x=~"up|down"}[5m])) > 1.5e3
        unless on (job) group_left (version) max_over_time(up{job="x"}[10m:1m] offset 1h) < Inf
        or -group:worker_backlog_seconds:rate5m
        or label_replace(worker_build_info{x="y"}, "a", "$1", "b", "(.*)")
    """
    assert promql.selectors(expr) == [
        ("worker_batch_records_bucket", 'job="a}b", x=~"up|down"'),
        ("up", 'job="x"'),
        ("group:worker_backlog_seconds:rate5m", ""),
        ("worker_build_info", 'x="y"'),
    ]
    assert promql.metrics(expr) == {
        "worker_batch_records", "up", "group:worker_backlog_seconds:rate5m", "worker_build_info",
    }  # fmt: skip


def promtool(*arguments):
    return subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)


def sections():
    """The runbook's, by heading."""
    parts = re.split(r"^## (.+)\n", RUNBOOKS.read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def events():
    """What the worker logs."""
    code = "".join(path.read_text() for path in (ROOT / "worker").rglob("*.py"))
    return set(re.findall(r"(?:log\.\w+\(|Lasting\(log,)\s*\"([a-z_]+)\"", code))


def panels_named(text):
    """Titles in italics, with the row where one follows."""
    prose = re.sub(r"```.*?```|\*\*.*?\*\*", " ", text, flags=re.DOTALL)
    prose = " ".join(prose.split())
    row = "|".join(rows())
    return re.findall(rf"\*([A-Z][^*]+)\*(?:(?: \(|, )({row})\))?", prose)


def cases_of(alert):
    """Minutes (pending and silent, firing, resolved) of the cases in which the alert fires."""
    summary = alert["annotations"]["summary"]
    pattern = ".+".join(re.escape(part) for part in re.split(r"\{\{.*?\}\}", summary))
    for case in CASES:
        for test in yaml.safe_load(case.read_text())["tests"]:
            looks = [
                (minutes(look["eval_time"]), look.get("exp_alerts") or [])
                for look in test["alert_rule_test"]
                if look["alertname"] == alert["alert"]
            ]
            fires = [
                minute
                for minute, found in looks
                for each in found
                if re.fullmatch(pattern, each["exp_annotations"]["summary"])
                and each["exp_labels"]["severity"] == alert["labels"]["severity"]
            ]
            silent = {minute for minute, found in looks if not found}
            waits = {minute for minute in silent if pending_at(test, alert, minute)}
            if fires and waits and silent:
                yield max(waits), min(fires), max(silent)


def pending_at(test, alert, minute):
    return any(
        minutes(look["eval_time"]) == minute
        and all(
            part in each["labels"]
            for part in (
                f'alertname="{alert["alert"]}"',
                'alertstate="pending"',
                f'severity="{alert["labels"]["severity"]}"',
            )
        )
        for look in test.get("promql_expr_test", [])
        for each in look.get("exp_samples", [])
    )


def minutes(duration):
    return int(duration.removesuffix("m"))

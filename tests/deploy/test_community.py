"""What a contributor meets: CONTRIBUTING, the templates, pre-commit. In step with the code."""

import itertools
import re
import sys
import tomllib
import typing
from pathlib import Path

import pytest
import yaml

from tests.deploy.reading import CHART, ROOT
from worker.settings import DeliverySettings

GITHUB = ROOT / ".github"
CONTRIBUTING = GITHUB / "CONTRIBUTING.md"
MAKEFILE = (ROOT / "Makefile").read_text()
FORMS = sorted((GITHUB / "ISSUE_TEMPLATE").glob("*_re*.yml"))
CODE = r"^ *```.*?^ *```|`[^`\n]+`"


def code_of(text):
    """The code of a document: blocks and spans, without a block's comments."""
    found = "\n".join(re.findall(CODE, text, re.MULTILINE | re.DOTALL))
    return re.sub(r"\s#.*", "", found)


def documents():
    return [*sorted(GITHUB.glob("*.md")), *FORMS]


def targets():
    phony = re.search(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)[1].split()
    rules = set(re.findall(r"^([a-z][a-z-]*):", MAKEFILE, re.MULTILINE))
    assert rules == set(phony)
    return rules


def urls():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]


def test_every_make_command_that_is_named_is_in_the_makefile():
    named = {
        target
        for path in documents()
        for target in re.findall(r"\bmake ([a-z][\w-]*)", code_of(path.read_text()))
    }
    assert named - targets() == set()
    kinds = {"setup", "check", "format", "test", "test-quick", "chaos", "bench", "tools"}
    assert kinds <= named, "what a contributor needs is there"


def test_a_document_that_names_another_command_would_fail():
    text = "Run `make tset`, not make sure; then\n\n   ```sh\n   make chekc  # make it\n   ```\n"
    assert re.findall(r"\bmake ([a-z][\w-]*)", code_of(text)) == ["tset", "chekc"]


def test_every_marker_and_file_that_contributing_names_is_there():
    text = code_of(CONTRIBUTING.read_text())
    markers = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    known = {marker.split(":")[0] for marker in markers["markers"]}
    named = set(re.findall(r'ARGS="-m (\w+)"', text))
    assert "gpu" in named
    assert named <= known
    tracked = r"(?<![\w./$-])(?:tests|deploy|\.github|\.ci)/[\w./-]+|\b\w+\.(?:toml|md|txt)\b"
    for path in re.findall(tracked, text):
        assert (ROOT / path).exists(), path


def test_a_sentence_that_contributing_gives_for_a_test_is_the_name_of_one():
    (name,) = set(re.findall(r"`(test_\w+)`", CONTRIBUTING.read_text()))
    assert any(f"def {name}(" in path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))


def test_the_address_is_the_same_everywhere():
    home = yaml.safe_load((CHART / "Chart.yaml").read_text())["home"]
    assert urls()["Repository"] == home
    found = itertools.chain(
        urls().values(),
        *(
            re.findall(r"https://github\.com/[^\s)`\"]+", path.read_text())
            for path in [*documents(), GITHUB / "ISSUE_TEMPLATE" / "config.yml"]
        ),
    )
    assert [url for url in found if not url.startswith(home)] == []
    for url in urls().values():
        path = re.fullmatch(re.escape(home) + r"/blob/main/(.+)", url)
        assert path is None or (ROOT / path[1]).is_file()


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_an_issue_form_is_one_that_github_takes(path):
    form = yaml.safe_load(path.read_text())
    assert set(form) <= {"name", "description", "title", "labels", "body", "assignees"}
    assert form["name"]
    assert form["description"]
    inputs = [part for part in form["body"] if part["type"] != "markdown"]
    assert inputs
    for part in form["body"]:
        assert part["type"] in {"markdown", "textarea", "input", "dropdown", "checkboxes"}
        assert set(part) <= {"type", "id", "attributes", "validations"}
        assert part["attributes"].get("value" if part["type"] == "markdown" else "label")
        options = part["attributes"].get("options", [])
        assert bool(options) == (part["type"] == "dropdown")
        assert len(options) == len(set(options))
    for key in (lambda part: part["id"], lambda part: part["attributes"]["label"]):
        given = [key(part) for part in inputs]
        assert len(given) == len(set(given))


def test_a_bug_report_asks_for_the_guarantees_that_there_are():
    (form,) = (path for path in FORMS if path.stem == "bug_report")
    (options,) = (
        part["attributes"]["options"]
        for part in yaml.safe_load(form.read_text())["body"]
        if part.get("id") == "guarantee"
    )
    guarantee = DeliverySettings.model_fields["guarantee"].annotation
    assert set(typing.get_args(guarantee)) == set(options) - {"not about the worker"}


def test_who_has_no_form_is_sent_to_the_advisories_and_the_runbooks():
    config = yaml.safe_load((GITHUB / "ISSUE_TEMPLATE" / "config.yml").read_text())
    assert set(config) == {"blank_issues_enabled", "contact_links"}
    links = [link["url"] for link in config["contact_links"]]
    assert all(set(link) == {"name", "url", "about"} for link in config["contact_links"])
    assert links[0].endswith("/security/advisories/new")
    assert links[0] in (GITHUB / "SECURITY.md").read_text()
    assert (ROOT / links[1].partition("/blob/main/")[2]).is_file()


def hooks():
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    (repository,) = config["repos"]
    assert repository["repo"] == "local", "another one would be downloaded"
    return repository["hooks"]


def test_a_hook_runs_what_is_installed_and_downloads_nothing():
    for hook in hooks():
        assert hook["language"] == "system"
        assert set(hook) <= {
            "id", "name", "entry", "language", "files", "types_or", "require_serial",
            "pass_filenames",
        }  # fmt: skip
        folder, _, program = hook["entry"].split()[0].rpartition("/")
        assert folder == ".venv/bin"
        assert Path(sys.executable).with_name(program).is_file()
        re.compile(hook.get("files", ""))


def test_the_hooks_are_those_of_make_check():
    recipe = re.search(r"^check: setup\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)[1]
    asked = [line.split("$(BIN)/")[1] for line in recipe.splitlines()]
    checked = {re.sub(r" (--check|\.)(?!\S)", "", command) for command in asked}
    hooked = {
        hook["entry"].removeprefix(".venv/bin/").removesuffix(" --force-exclude")
        for hook in hooks()
    }
    assert hooked == checked == {"ruff check", "ruff format", "mypy", "lint-imports"}

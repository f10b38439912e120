"""Whoever follows a pointer arrives: links of the documents, and what code and alerts refer to."""

import re
import subprocess
import tomllib

import pytest

from tests.tools import picture
from tests.tools.tables import ROOT, anchors, documents
from worker.demo.frame import Counts, Frame, Story
from worker.demo.view import draw

PUBLISHED = "https://github.com/emotion-stream/emotion-stream/blob/main/"
README_LINES = 150


def links():
    """Document and target of each link and picture that stays within the repository."""
    for path, text in documents().items():
        prose = re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)
        for target in re.findall(r"\]\(([^)\s]+)\)", prose):
            if target.startswith(PUBLISHED) or not re.match(r"[a-z]+:", target):
                yield path, target


def files():
    """Everything that is not a document, by its path: code, chart, rules, dashboard, Makefile."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    for path in listed.stdout.decode().splitlines():
        is_text = not path.endswith((".md", ".png", ".svg", ".jsonl", ".lock"))
        if is_text and (ROOT / path).is_file():
            yield path, (ROOT / path).read_text(encoding="utf-8")


def pointers():
    """File, document and anchor of each mention of a document: `deploy/runbooks.md#scaling`."""
    for path, text in files():
        named = re.findall(r"([\w.-]+(?:/[\w.-]+)+\.md)(?:#([\w-]*))?", text.replace(PUBLISHED, ""))
        for document, anchor in named:
            yield path, document, anchor


@pytest.mark.parametrize(("path", "target"), sorted(set(links())), ids=lambda value: value)
def test_a_link_leads_to_a_file_and_a_heading(path, target):
    name, _, anchor = target.removeprefix(PUBLISHED).partition("#")
    base = ROOT if target.startswith(PUBLISHED) else (ROOT / path).parent
    file = (base / name).resolve() if name else ROOT / path
    assert file.exists(), f"{path} links to {target}"
    assert file.is_relative_to(ROOT)
    if anchor:
        assert anchor in anchors(file.read_text(encoding="utf-8")), f"{path} links to {target}"


def test_what_code_and_alerts_refer_to_is_there():
    found = list(pointers())
    assert len(found) > 40
    for path, document, anchor in found:
        assert (ROOT / document).is_file(), f"{path} refers to {document}"
        headings = anchors((ROOT / document).read_text(encoding="utf-8"))
        assert not anchor or anchor in headings, f"{path} refers to {document}#{anchor}"


def test_a_worker_that_cannot_go_on_by_itself_says_where_to_read_on():
    here = [(document, anchor) for path, document, anchor in pointers() if path[:7] == "worker/"]
    said = {f"{document}#{anchor}" for document, anchor in here}
    assert said == {
        "deploy/runbooks.md#a-hanging-transaction",
        "deploy/runbooks.md#a-record-that-cannot-be-read",
    }


def test_nothing_refers_to_a_readme_without_saying_which():
    for path, text in files():
        if path.startswith(("worker/", "deploy/")):
            assert not re.search(r"\bREADME\b(?!\.md)", text), path


def test_every_document_is_found_from_the_readme():
    found, left = set(), ["README.md"]
    while left:
        path = left.pop()
        found.add(path)
        targets = [target.partition("#")[0] for source, target in links() if source == path]
        paths = {((ROOT / path).parent / target).resolve() for target in targets if target}
        names = {each.relative_to(ROOT).as_posix() for each in paths if each.suffix == ".md"}
        left += names - found
    assert set(documents()) - found <= {each for each in documents() if each.startswith(".github/")}


def test_the_readme_is_read_in_two_minutes():
    assert len(documents()["README.md"].splitlines()) <= README_LINES


def test_the_figures_of_the_readme_are_those_that_were_measured():
    comparison = documents()["README.md"].partition("## Compared")[2].partition("\n## ")[0]
    rates = re.findall(r"([\d,]+) (?:messages|samples)/s", comparison)
    ratios = re.findall(r"\| ([\d.]+) \|$", comparison, re.MULTILINE)
    assert len(rates) == 6
    assert len(ratios) == 4
    tables = [line for line in documents()["tests/README.md"].splitlines() if line[:1] == "|"]
    cells = {cell.split()[0] for line in tables for cell in line.split("|") if cell.strip()}
    assert {*rates, *ratios} <= cells


def test_the_changes_of_defaults_go_up_to_this_version():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    chart = (ROOT / "deploy/helm/emotion-worker/Chart.yaml").read_text()
    assert f'appVersion: "{version}"' in chart
    section = documents()["deploy/README.md"].partition("### What changes in defaults")[2]
    versions = re.findall(r"^\| (\d+\.\d+\.\d+) \|", section.partition("\n## ")[0], re.MULTILINE)
    assert versions[-1] == version


def test_the_picture_of_the_demo_is_drawn_by_its_own_view_and_fetches_nothing():
    frame = Frame(
        elapsed=9,
        counts=Counts(sent=1, total=2),
        story=Story(doing="killed with -9", down=True),
    )
    drawn = picture.drawn(draw(frame, width=picture.COLUMNS, height=picture.ROWS))
    for svg in (drawn, picture.PICTURE.read_text(encoding="utf-8")):
        assert "killed" in svg
        assert not re.search(r"@import|@font-face|url\((?!#)|href=", svg)

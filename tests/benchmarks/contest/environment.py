"""The environments of the baselines that need other packages than the project has.

Their packages clash with the project's (Quix Streams wants an older pydantic, Infinity an older
transformers), so they have virtual environments of their own. Each is made once, and sees packages
of the project behind its own: torch and kafka-python are the same for every contestant.
"""

import hashlib
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
STREAMS = "requirements.txt"
"""Of ONNX Runtime, Quix Streams and FastStream."""
INFINITY = "requirements-infinity.txt"
SEEN = {INFINITY: ("torch*", "functorch", "nvidia", "triton", "kafka*")}
"""Of the project's packages, those that an environment sees behind its own; all, where it is not
named here. Infinity's numpy is too old for the project's datasets, which it would load."""
NAMED = ("onnxruntime", "quixstreams", "faststream", "infinity-emb", "transformers (infinity)")
"""Packages that a table names."""
KEPT = (*NAMED, "onnx", "confluent-kafka", "pydantic", "numpy (infinity)")
"""What the results name."""
_BEHIND = "behind.pth"
"""Written last: where it is, the environment is complete."""


def path(requirements: str) -> Path:
    """The file of that name."""
    return Path(__file__).with_name(requirements)


def interpreter(requirements: Path, tools: Path = ROOT / ".tools") -> Path:
    """The environment's Python; makes the environment if there is none of these requirements."""
    folder = tools / f"contest-{fingerprint(requirements)}"
    python = folder / "bin" / "python"
    if not any(folder.glob(f"lib/*/site-packages/{_BEHIND}")):
        make(folder, python, requirements)
    return python


def versions(requirements: Iterable[str] = (STREAMS, INFINITY)) -> dict[str, str]:
    """Of what the results name, in the environments of these requirements."""
    found = {}
    if STREAMS in requirements:
        found |= pinned(path(STREAMS).read_text("utf-8"))
    if INFINITY in requirements:
        infinity = pinned(path(INFINITY).read_text("utf-8"))
        found |= {f"{name} (infinity)": version for name, version in infinity.items()}
        found["infinity-emb"] = infinity["infinity-emb"]
    return {name: found[name] for name in KEPT if name in found}


def pinned(requirements: str) -> dict[str, str]:
    """Versions by name, from pinned requirements."""
    pairs = (line.split("==") for line in requirements.splitlines() if "==" in line)
    return {name: version.strip() for name, version in pairs}


def fingerprint(requirements: Path) -> str:
    """Of what is in the environment."""
    seen = SEEN.get(requirements.name, ())
    given = requirements.read_bytes() + f"{sys.version}{sys.prefix}{seen}".encode()
    return hashlib.sha256(given).hexdigest()[:12]


def make(folder: Path, python: Path, requirements: Path) -> None:
    print(f"making {folder}", file=sys.stderr, flush=True)
    uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")
    if uv is None:
        raise RuntimeError("no uv: `make setup` installs it")
    shutil.rmtree(folder, ignore_errors=True)
    run = [uv, "venv", "--quiet", "--python", sys.executable, str(folder)]
    subprocess.run(run, check=True)
    run = [uv, "pip", "install", "--quiet", "--no-deps", "--python", str(python)]
    subprocess.run([*run, "--requirement", str(requirements)], check=True)
    (packages,) = folder.glob("lib/*/site-packages")
    behind = Path(sysconfig.get_path("purelib"))
    if requirements.name in SEEN:
        behind = linked(behind, folder / "behind", SEEN[requirements.name])
    (packages / _BEHIND).write_text(f"{behind}\n", encoding="utf-8")


def linked(packages: Path, folder: Path, patterns: tuple[str, ...]) -> Path:
    """A folder with links to some of the packages."""
    folder.mkdir()
    for pattern in patterns:
        for found in packages.glob(pattern):
            (folder / found.name).symlink_to(found)
    return folder

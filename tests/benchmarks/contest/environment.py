"""The environment of the baselines that need more than the project has.

Its packages clash with the project's (Quix Streams wants an older pydantic), so they have a virtual
environment of their own. It is made once, and sees the project's packages behind its own: torch,
transformers and kafka-python are the same for every contestant.
"""

import hashlib
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
REQUIREMENTS = Path(__file__).with_name("requirements.txt")
SHOWN = ("onnxruntime", "onnx", "quixstreams", "faststream", "confluent-kafka", "pydantic")
"""What a figure names of it."""
_BEHIND = "behind.pth"
"""Written last: where it is, the environment is complete."""


def interpreter(requirements: Path = REQUIREMENTS, tools: Path = ROOT / ".tools") -> Path:
    """The environment's Python; makes the environment if there is none of these requirements."""
    folder = tools / f"contest-{fingerprint(requirements)}"
    python = folder / "bin" / "python"
    if not any(folder.glob(f"lib/*/site-packages/{_BEHIND}")):
        make(folder, python, requirements)
    return python


def pinned(requirements: str, names: tuple[str, ...]) -> dict[str, str]:
    """Versions by name, from a file of pinned requirements."""
    pairs = (line.split("==") for line in requirements.splitlines() if "==" in line)
    return {name: version.strip() for name, version in pairs if name in names}


def fingerprint(requirements: Path) -> str:
    """Of what is in the environment."""
    given = requirements.read_bytes() + sys.version.encode() + sys.prefix.encode()
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
    (packages / _BEHIND).write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")

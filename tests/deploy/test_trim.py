"""What the images leave out of torch is what neither program loads: both run here without it."""

import json
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from deploy.docker import trim
from tests.deploy.reading import DOCKER, ROOT
from tests.support import models

PACKAGES = Path(sysconfig.get_path("purelib"))
LEFT_OUT = {"triton": "triton", "cuda-bindings": "cuda", "cuda-pathfinder": "cuda"}
"""Packages that torch asks for and no lock has, with what they are imported as."""

# Trains, evaluates and labels as the images would: what they lack is not to be imported. Prints
# the files of packages that are open at the end: libraries are, whoever opened them.
_BOTH = """
import importlib.abc, json, pathlib, sys

class Lacking(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {lacking}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Lacking())
folder, tiny = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
from train.__main__ import main
code = main([
    "run", f"--dataset={{tiny / 'data'}}", f"--base-model={{tiny / 'base'}}", "--device=cpu",
    f"--output={{folder / 'trained'}}", "--epochs=1", "--batch-size=16", "--temperature=1",
])
assert code == 0, code
from worker.model.load import load
for path in (folder / "trained", tiny / "trained"):
    model = load(path=path, device="cpu", dtype="float32", threads=1)
    batch = model.stage([ids for ids, _ in model.tokenize(["so happy today"])])
    assert model.scores(model.launch(batch)).shape == (1, 6)
assert not {lacking} & set(sys.modules)
maps = pathlib.Path("/proc/self/maps")
lines = maps.read_text().splitlines() if maps.exists() else []
print(json.dumps(sorted({{line.split(maxsplit=5)[5] for line in lines if line.count("/")}})))
"""


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_both_programs_run_without_what_the_images_leave_out(tmp_path, tmp_path_factory):
    tiny = models.tiny_models(tmp_path_factory)
    program = _BOTH.format(lacking=set(LEFT_OUT.values()))
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path, tiny],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    loaded = set(map(Path, json.loads(done.stdout.splitlines()[-1])))
    removed = list(trim.never_loaded(PACKAGES))
    for path in removed:
        assert not {each for each in loaded if each.is_relative_to(path)}, path
    assert PACKAGES / "torch" / "include" in removed


def test_no_lock_has_what_torch_asks_for_and_no_image_loads():
    for lock in DOCKER.glob("*.lock"):
        names = {line.partition("==")[0] for line in lock.read_text().splitlines()}
        assert not names & set(LEFT_OUT), lock.name


def test_it_removes_what_it_says_and_leaves_the_rest(tmp_path, monkeypatch, capsys):
    removed = ["torch/include/ATen/Tensor.h", "torch/bin/protoc", "nvidia/cu13/include/a.h",
               "nvidia/cu13/lib/libcudart_static.a", "nvidia/nvshmem/lib/libnvshmem_device.bc",
               "nvidia/cu13/lib/libcusolverMg.so.12"]  # fmt: skip
    kept = ["torch/bin/torch_shm_manager", "torch/lib/libtorch_cpu.so", "numpy/_core/include/a.h",
            "nvidia/cu13/lib/libcusolver.so.12", "nvidia/cudnn/lib/libcudnn.so.9"]  # fmt: skip
    for name in (*removed, *kept):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(bytes(1_000_000))
    monkeypatch.setattr(trim.sysconfig, "get_path", lambda _: str(tmp_path))
    trim.main()
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert left == set(kept)
    assert capsys.readouterr().out == "removed 6 MB that are never loaded\n"


def test_of_an_environment_without_cuda_it_removes_what_is_there(tmp_path, monkeypatch, capsys):
    (tmp_path / "torch" / "include").mkdir(parents=True)
    monkeypatch.setattr(trim.sysconfig, "get_path", lambda _: str(tmp_path))
    trim.main()
    assert list((tmp_path / "torch").iterdir()) == []
    assert capsys.readouterr().out.startswith("removed 0 MB")

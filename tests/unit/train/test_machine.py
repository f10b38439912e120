"""Precision by machine and learning rate by size."""

from pathlib import Path

import pytest

from tests.support.lazy import Lazy
from train import machine, options
from train.errors import Refused
from train.settings import RunSettings

pytestmark = pytest.mark.heavy

torch = Lazy("torch")


def settings(**given) -> RunSettings:
    return RunSettings(output=Path("o"), _env_file=None, **given)


@pytest.fixture
def cpu_only(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")

    def capability(major: int) -> None:
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (major, 0))

    return capability


@pytest.mark.parametrize(("major", "precision"), [(7, "float16"), (8, "bfloat16"), (9, "bfloat16")])
def test_a_gpu_takes_bfloat16_where_it_is_native(gpu, major, precision):
    gpu(major)
    assert machine.choose("auto", "auto").precision == precision
    assert machine.choose("auto", "float32").precision == "float32"


@pytest.mark.parametrize(
    ("capabilities", "native"),
    [({"avx512_bf16": True}, True), ({"amx_bf16": True}, True), ({"avx512_f": True}, False)],
)
def test_a_cpu_takes_bfloat16_where_it_is_native(cpu_only, monkeypatch, capabilities, native):
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: capabilities)
    assert machine.cpu_has_bfloat16() is native
    assert machine.choose("auto", "auto").precision == ("bfloat16" if native else "float32")


@pytest.mark.parametrize(
    ("cuda", "advice"),
    [
        ("13.2", r"check NVIDIA's driver \(580 or newer\)"),
        ("12.8", r"check NVIDIA's driver \(525 or newer\)"),
        ("14.0", r"check NVIDIA's driver \(for CUDA 14\.0\)"),
        (None, "it is the CPU build: .* target `trainer`"),
    ],
)
def test_cuda_without_a_gpu_is_refused_with_the_least_driver(cpu_only, monkeypatch, cuda, advice):
    monkeypatch.setattr("torch.version.cuda", cuda)
    with pytest.raises(Refused, match=f"--device cuda: torch .* sees no GPU: {advice}"):
        machine.choose("cuda", "auto")


def test_float16_on_a_cpu_is_refused(cpu_only):
    with pytest.raises(Refused, match="float16: needs CUDA"):
        machine.choose("auto", "float16")


@pytest.mark.parametrize(("units", "rate"), [(384, 1e-4), (768, 5e-5), (1024, 3.75e-5), (32, 1e-3)])
def test_the_learning_rate_falls_with_the_size_of_the_model(units, rate):
    assert options.learning_rate(settings(), units) == pytest.approx(rate)


def test_a_learning_rate_that_is_asked_for_is_taken():
    assert options.learning_rate(settings(learning_rate=2e-5), 384) == 2e-5

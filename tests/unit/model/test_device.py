"""What is known of the GPU, how it computes, and what a user is told of one that torch lacks."""

import subprocess
import sys
from importlib.metadata import version
from types import SimpleNamespace

import pytest
from structlog.testing import capture_logs

from tests.deploy.reading import DOCKER
from tests.support.lazy import Lazy
from worker.check_options import CheckSettings
from worker.errors import DeviceLost, Refused
from worker.given.library import DRIVERS
from worker.gpu import THROTTLES
from worker.layout import Layout
from worker.settings import BatchSettings

pytestmark = pytest.mark.heavy

torch, device, check = Lazy("torch"), Lazy("worker.model.device"), Lazy("worker.check")
budget = Lazy("worker.model.budget")


def refusal(monkeypatch, cuda):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.version.cuda", cuda)
    with pytest.raises(Refused) as refused:
        device.choose_device("cuda")
    return str(refused.value)


@pytest.mark.parametrize(("cuda", "driver"), [("13.2", "580"), ("12.8", "525"), ("11.8", "450")])
def test_a_gpu_that_is_not_seen_names_the_least_driver(monkeypatch, cuda, driver):
    assert f"check NVIDIA's driver ({driver} or newer)" in refusal(monkeypatch, cuda)


def test_a_version_of_cuda_that_is_not_known_is_named_itself(monkeypatch):
    assert "check NVIDIA's driver (for CUDA 14.0)" in refusal(monkeypatch, "14.0")


def test_the_cpu_build_says_that_it_is_one_and_nothing_of_drivers(monkeypatch):
    told = refusal(monkeypatch, None)
    assert "it is the CPU build: install the one for CUDA (the image of target `worker`)" in told
    assert "driver" not in told


def test_the_driver_of_what_the_images_install_is_known():
    lock = (DOCKER / "requirements-cuda.lock").read_text()
    (major,) = {line[14:16] for line in lock.splitlines() if line.startswith("cuda-toolkit==")}
    assert major in DRIVERS


def a_gpu(monkeypatch, seen):
    """A GPU as torch and NVML describe it."""
    found = SimpleNamespace(
        uuid="ffc7-98", name="NVIDIA H200", major=9, minor=0, total_memory=150 << 30
    )
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda _: found)
    monkeypatch.setattr(
        "worker.model.nvml.find", lambda uuid: seen if uuid == "ffc7-98" else pytest.fail(uuid)
    )
    with capture_logs() as logs:
        gpu = device.gpu_of(torch.device("cuda:0"))
    (line,) = logs
    return gpu, line


def test_a_gpu_is_known_by_torch_and_by_its_driver(monkeypatch):
    seen = SimpleNamespace(uuid="GPU-ffc7-98", driver="580.95.05", look=lambda: "a reading")
    gpu, line = a_gpu(monkeypatch, seen)
    assert (gpu.uuid, gpu.name, gpu.capability) == ("GPU-ffc7-98", "NVIDIA H200", "9.0")
    assert gpu.look() == "a reading"
    assert str(gpu) == f"NVIDIA H200, driver 580.95.05, CUDA {torch.version.cuda or 'none'}"
    assert line["event"] == "gpu"
    assert line["torch"].startswith(version("torch"))
    assert (line["driver"], line["deterministic"]) == ("580.95.05", False)


def test_without_nvml_the_name_of_the_gpu_is_known_and_nothing_can_be_asked(monkeypatch):
    gpu, line = a_gpu(monkeypatch, None)
    assert (gpu.driver, gpu.look, line["driver"]) == (None, None, None)
    assert "driver unknown" in str(gpu)


def test_check_names_the_gpu_and_its_driver(monkeypatch, capsys):
    seen = SimpleNamespace(uuid="GPU-ffc7-98", driver="580.95.05", look=lambda: None)
    gpu, _ = a_gpu(monkeypatch, seen)
    model = SimpleNamespace(
        device="cuda:0", gpu=gpu, dtype="torch.float16", layout=Layout(packed=True)
    )
    monkeypatch.setattr("worker.model.load.load", lambda **_: model)
    check._device(CheckSettings(), object(), check.Report())
    assert capsys.readouterr().out == (
        f"device      ok: cuda:0 ({gpu}) in float16, packed rows, "
        "batches of as many tokens as it measures at the start\n"
    )


def test_check_shows_what_batches_take_where_it_is_asked_to(monkeypatch, capsys):
    model = SimpleNamespace(device="cpu", gpu=None, dtype="torch.float32", layout=Layout())
    tried = [
        budget.Trial(256, 0.064, 0.06),
        budget.Trial(512, 0.1, 0.1),
        budget.Trial(1_024, 0.3, 0.3),
    ]
    monkeypatch.setattr("worker.model.load.load", lambda **_: model)
    monkeypatch.setattr("worker.model.budget.measured", lambda *_, **__: tried)
    given = CheckSettings(calibrate=True, batch=BatchSettings(max_tokens=300))
    check._device(given, object(), check.Report())
    assert capsys.readouterr().out.splitlines() == [
        "device      ok: cpu in float32, padded rows, batches of 300 tokens",
        "   tokens   batch ms   tokens/s",
        "      256       64.0      4,000",
        "      512      100.0      5,120  chosen",
        "     1024      300.0      3,413  longer than batch.max_seconds, 0.25 s",
        "batch.max_tokens is set, and counts: 300",
    ]


def test_check_says_that_a_gpu_is_lost_and_exits_with_1(capsys):
    report = check.Report()

    def lost():
        raise DeviceLost("CUDA error: unspecified launch failure")

    assert check._attempt(lost, report) is None
    assert report.code == 1
    assert capsys.readouterr().err.startswith("emotion-worker: the GPU is lost to this process: ")


def test_a_cpu_is_no_gpu():
    assert device.gpu_of(torch.device("cpu")) is None
    assert device.memory_of(torch.device("cpu")) == {}


def test_products_in_float32_are_float32_on_a_gpu_whatever_the_library_would_choose(monkeypatch):
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark
    try:
        matmul.allow_tf32 = cudnn.allow_tf32 = cudnn.benchmark = True
        device.settle_arithmetic(torch.device("cpu"))
        assert (matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark) == (True, True, True)
        device.settle_arithmetic(torch.device("cuda"))
        assert (matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark) == (False, False, False)
    finally:
        matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark = before


@pytest.mark.gpu
def test_nvml_finds_the_gpu_that_torch_computes_on():
    pytest.importorskip("pynvml", reason="nvidia-ml-py is not installed")
    place = torch.device("cuda:0")
    gpu = device.gpu_of(place)
    assert gpu.look is not None, "NVML does not know torch's GPU"
    block = torch.zeros(1 << 30, dtype=torch.uint8, device=place)
    reading = gpu.look()
    free, total = torch.cuda.mem_get_info(place)
    # The driver keeps some of the memory for itself, and others may use the card meanwhile.
    assert abs(reading.memory_capacity - total) < 0.1 * total
    assert reading.memory_used >= block.numel()
    assert abs(reading.memory_used - (total - free)) < 2 << 30
    assert set(reading.throttled) == set(THROTTLES)
    assert 0 < reading.temperature < 120
    if gpu.uuid.startswith("GPU-"):
        assert 0 <= reading.utilization <= 1


ILLEGAL = """
import sys, torch
from worker.errors import DeviceLost
from worker.model.failures import explained
place = torch.device("cuda:0")
table = torch.zeros(4, 2, device=place)
try:
    table[torch.tensor([10_000], device=place)]
    torch.cuda.synchronize(place)
except Exception as error:
    lost = explained(error, place)
    print(getattr(error, "error_code", None), lost, flush=True)
    from worker.watchdog import end_at_once
    end_at_once(lost.exit_code if isinstance(lost, DeviceLost) else 99)
"""


@pytest.mark.gpu
def test_an_illegal_index_on_the_gpu_is_a_lost_device_and_the_process_ends():
    done = subprocess.run(
        [sys.executable, "-c", ILLEGAL], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "710 the GPU is lost to this process: CUDA error: device-side assert" in done.stdout

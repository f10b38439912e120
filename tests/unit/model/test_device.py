"""What a user is told who asks for a GPU that torch does not see."""

import pytest

from tests.deploy.reading import DOCKER
from tests.support.lazy import Lazy
from worker.errors import Refused
from worker.given.library import DRIVERS

pytestmark = pytest.mark.heavy

torch, device = Lazy("torch"), Lazy("worker.model.device")


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

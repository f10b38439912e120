"""Which failures of a call end a GPU's context, which are a lack of memory, and which neither."""

from contextlib import nullcontext

import pytest

from tests.support.lazy import Lazy
from worker.errors import DeviceLost

pytestmark = pytest.mark.heavy

torch, failures = Lazy("torch"), Lazy("worker.model.failures")
classifiers = Lazy("worker.model.load")


class Device:
    """A GPU's answers to the smallest operation."""

    def __init__(self, monkeypatch):
        self.error = None
        self.asked = 0
        monkeypatch.setattr("torch.ones", self.compute)
        monkeypatch.setattr("torch.cuda.synchronize", lambda _: None)

    def compute(self, rows, *, device):
        assert (rows, device) == (1, torch.device("cuda:0"))
        self.asked += 1
        if self.error is not None:
            raise self.error


@pytest.fixture
def gpu(monkeypatch):
    return Device(monkeypatch)


def accelerator(code, text="CUDA error: some words"):
    """As torch raises it: the code, and paragraphs of advice after the first line."""
    error = torch.AcceleratorError(f"{text}\nSearch for `...' in its documentation")
    error.error_code = code
    return error


def explained(error, device="cuda:0"):
    return failures.explained(error, torch.device(device))


@pytest.mark.parametrize("code", [214, 220, 226, 700, 702, 710, 714, 715, 716, 717, 718, 719, 721])
def test_a_code_that_ends_the_context_is_a_lost_device_and_nothing_is_asked_of_it(gpu, code):
    found = explained(accelerator(code, "CUDA error: an illegal memory access was encountered"))
    assert isinstance(found, DeviceLost)
    assert str(found).startswith(
        "the GPU is lost to this process: CUDA error: an illegal memory access was encountered: "
    )
    assert gpu.asked == 0


DOUBTFUL = (
    lambda: accelerator(46, "CUDA error: CUDA-capable device(s) is/are busy or unavailable"),
    lambda: accelerator(999, "CUDA error: unknown error"),
    lambda: RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasGemmEx"),
    lambda: RuntimeError("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED"),
    lambda: RuntimeError("The size of tensor a (3) must match the size of tensor b (4)"),
    ValueError,
)


@pytest.mark.parametrize("error", DOUBTFUL)
def test_in_doubt_the_device_is_asked_whether_it_still_computes(gpu, error):
    assert explained(error()).kind == "other"
    assert gpu.asked == 1
    gpu.error = accelerator(719, "CUDA error: unspecified launch failure")
    lost = explained(error())
    assert isinstance(lost, DeviceLost)
    assert "launch failure" not in str(lost), "the first error is the cause"


def test_a_device_without_memory_for_the_question_computes(gpu):
    gpu.error = torch.OutOfMemoryError("x")
    assert explained(RuntimeError("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED")).kind == "other"


@pytest.mark.parametrize(
    "error",
    [
        lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        lambda: accelerator(2, "CUDA error: out of memory"),
        lambda: RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate"),
        lambda: RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        lambda: RuntimeError("CUDA driver error: out of memory"),
    ],
)
def test_a_lack_of_memory_is_no_lost_device_however_it_is_spelled(gpu, error):
    assert explained(error()).kind == "oom"
    assert gpu.asked == 0


@pytest.mark.parametrize("error", [*DOUBTFUL, lambda: accelerator(700)])
def test_on_a_cpu_no_device_is_lost_or_asked(gpu, error):
    assert explained(error(), "cpu").kind == "other"
    assert gpu.asked == 0
    assert explained(torch.OutOfMemoryError("x"), "cpu").kind == "oom"


def test_a_failure_is_one_line_and_keeps_no_traceback(gpu):
    with pytest.raises(RuntimeError) as caught:
        raise RuntimeError("first\nsecond")
    assert caught.value.__traceback__ is not None
    found = explained(caught.value)
    assert caught.value.__traceback__ is None
    assert str(found) == "first"
    assert str(explained(ValueError())) == "ValueError"


def lost(*_, **__):
    raise accelerator(719, "CUDA error: unspecified launch failure")


def test_rows_that_cannot_be_pinned_because_the_gpu_is_lost_say_so(gpu, untrained, monkeypatch):
    model = classifiers.load(path=untrained, device="cpu", dtype="float32", threads=1)
    monkeypatch.setattr(model, "device", torch.device("cuda:0"))
    monkeypatch.setattr("torch.cuda.device", nullcontext)
    monkeypatch.setattr("torch.Tensor.pin_memory", lost)
    with pytest.raises(DeviceLost, match="unspecified launch failure"):
        model.stage([[2, 3]])


@pytest.mark.parametrize("dtype", ["auto", "bfloat16"])
@pytest.mark.parametrize("calls", [0, 1, 2])
def test_a_gpu_that_is_lost_while_a_model_is_loaded_is_not_blamed_on_the_checkpoint(
    untrained, monkeypatch, dtype, calls
):
    """Neither on its precision: `tuning.py` tries one after the other."""
    made, networks = [], classifiers.network

    def network(*arguments):
        whole = networks(*arguments)
        forward = whole.forward

        def call(**inputs):
            made.append(inputs)
            if len(made) > calls:
                raise DeviceLost("CUDA error: unspecified launch failure")
            return forward(**inputs)

        monkeypatch.setattr(whole, "forward", call)
        return whole

    monkeypatch.setattr("worker.model.load.network", network)
    monkeypatch.setattr("worker.model.classifier.explained", lambda error, _: error)
    with pytest.raises(DeviceLost):
        classifiers.load(path=untrained, device="cpu", dtype=dtype, threads=1)
    assert len(made) == calls + 1

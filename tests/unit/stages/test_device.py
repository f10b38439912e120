"""The device thread: what it shows, and what ends it."""

import pytest
from prometheus_client import CollectorRegistry

from worker.errors import DeviceLost
from worker.gpu import Gpu, Reading
from worker.metrics import Metrics
from worker.stages import device
from worker.stages.device import device_stage
from worker.stages.shutdown import Shutdown


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(device, "LOOK_SECONDS", 0.0)


def looked(*answers):
    """The metrics after the driver gave these answers; the worker stops after the last."""
    registry, shutdown, left = CollectorRegistry(), Shutdown(deadline=1.0), list(answers)

    def look():
        answer = left.pop(0)
        if not left:
            shutdown.drain()
        if isinstance(answer, Exception):
            raise answer
        return answer

    stage = device_stage(
        Gpu(uuid="GPU-1", name="H200", capability="9.0", cuda="13.2", driver="580.1", look=look),
        shutdown=shutdown,
        metrics=Metrics(
            input_topic="in", output_topic="out", dlq_topic="dlq", version="0", registry=registry
        ),
    )
    try:
        stage.run()
    except DeviceLost as error:
        return registry, error
    return registry, None


def value(registry, name, **labels):
    return registry.get_sample_value(f"worker_{name}", {"uuid": "GPU-1", **labels})


def test_the_drivers_figures_are_shown():
    registry, failure = looked(Reading(utilization=0.1), Reading(utilization=0.9, power=300.0))
    assert failure is None
    assert value(registry, "device_utilization_ratio") == 0.9
    assert value(registry, "device_power_watts") == 300.0


def test_a_gpu_that_is_lost_ends_the_worker_and_is_counted_once():
    lost = DeviceLost("XID 79")
    registry, failure = looked(Reading(utilization=0.1), lost)
    assert failure is lost
    assert registry.get_sample_value("worker_inference_errors_total", {"kind": "device"}) == 1


def test_without_a_gpu_or_a_driver_to_ask_there_is_no_thread():
    shutdown = Shutdown(deadline=1.0)
    unseen = Gpu(uuid="GPU-1", name="H200", capability="9.0", cuda="13.2")
    for gpu in (None, unseen):
        assert device_stage(gpu, shutdown=shutdown, metrics=None) is None

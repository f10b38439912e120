"""A GPU as its driver sees it, over a fake of the library: no GPU, no driver, no torch."""

import inspect
import re
import sys
from types import SimpleNamespace

import pytest
from structlog.testing import capture_logs

from worker.errors import DeviceLost
from worker.gpu import THROTTLES, Reading
from worker.model import nvml

UUID = "ffc79498-8ff3-c2dc-3b0d-fafd804516ae"
WORD = r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])"
"""Where one begins in a name of the library's."""
CARD, INSTANCE = "the card", "the instance"


class Error(Exception):
    def __init__(self, value, text="of the fake"):
        super().__init__(text)
        self.value = value


class Library:
    """`pynvml`, as far as it is used: a node of one card, or of one card with a MIG instance."""

    NVMLError = Error
    NVML_ERROR_NOT_SUPPORTED = 3
    NVML_ERROR_NOT_FOUND = 6
    NVML_ERROR_DRIVER_NOT_LOADED = 9
    NVML_ERROR_TIMEOUT = 10
    NVML_ERROR_FUNCTION_NOT_FOUND = 13
    NVML_ERROR_GPU_IS_LOST = 15
    NVML_ERROR_RESET_REQUIRED = 16
    NVML_ERROR_UNKNOWN = 999
    NVML_TEMPERATURE_GPU = 0

    def __init__(self, *, mig=False):
        self.devices = {f"GPU-{UUID}": CARD} if not mig else {f"MIG-{UUID}": INSTANCE}
        self.nvmlEventTypeXidCriticalError = 8
        self.failures = {}
        """By the name of a function: the code of its error."""
        self.bits = 0
        self.xids = []
        """Those that come, each with the instance that it is of."""
        self.asked = []

    def __getattr__(self, name):
        if not name.startswith("nvml"):
            raise AttributeError(name)

        def call(*arguments):
            self.asked.append((name, *arguments))
            if name in self.failures:
                raise Error(self.failures[name])
            words = re.sub(WORD, "_", name.removeprefix("nvml")).lower()
            return getattr(self, f"answer_{words}")(*arguments)

        return call

    def _of_a_card(self, handle):
        if handle != CARD:
            raise Error(self.NVML_ERROR_NOT_SUPPORTED)

    def answer_init(self):
        pass

    def answer_system_get_driver_version(self):
        return "580.95.05"

    def answer_device_get_handle_by_uuid(self, uuid):
        if uuid not in self.devices:
            raise Error(self.NVML_ERROR_NOT_FOUND)
        return self.devices[uuid]

    def answer_device_get_gpu_instance_id(self, handle):
        assert handle == INSTANCE
        return 7

    def answer_device_get_device_handle_from_mig_device_handle(self, handle):
        assert handle == INSTANCE
        return CARD

    def answer_device_get_memory_info(self, handle):
        return SimpleNamespace(used=3 << 30, total=(80 if handle == CARD else 10) << 30)

    def answer_device_get_utilization_rates(self, handle):
        self._of_a_card(handle)
        return SimpleNamespace(gpu=42, memory=7)

    def answer_device_get_temperature(self, handle, sensor):
        assert sensor == self.NVML_TEMPERATURE_GPU
        self._of_a_card(handle)
        return 61

    def answer_device_get_power_usage(self, handle):
        self._of_a_card(handle)
        return 312_500

    def answer_device_get_current_clocks_event_reasons(self, handle):
        self._of_a_card(handle)
        return self.bits

    def answer_device_get_current_clocks_throttle_reasons(self, handle):
        return self.bits

    def answer_event_set_create(self):
        return "events"

    def answer_device_register_events(self, handle, kinds, events):
        assert (kinds, events) == (self.nvmlEventTypeXidCriticalError, "events")
        self._of_a_card(handle)

    def answer_event_set_wait_v2(self, events, milliseconds):
        assert (events, milliseconds) == ("events", 0)
        if not self.xids:
            raise Error(self.NVML_ERROR_TIMEOUT)
        xid, instance = self.xids.pop(0)
        return SimpleNamespace(eventData=xid, gpuInstanceId=instance)


@pytest.fixture
def library(monkeypatch):
    return installed(monkeypatch, Library())


def installed(monkeypatch, library):
    monkeypatch.setitem(sys.modules, "pynvml", library)
    return library


def test_a_gpu_is_found_by_its_uuid_and_read_in_base_units(library):
    seen = nvml.find(UUID)
    assert (seen.uuid, seen.driver) == (f"GPU-{UUID}", "580.95.05")
    assert seen.look() == Reading(
        memory_used=3 << 30, memory_capacity=80 << 30, utilization=0.42, temperature=61.0,
        power=312.5, throttled=dict.fromkeys(THROTTLES, False),
    )  # fmt: skip


def test_a_mig_instance_has_its_own_memory_and_no_utilization(monkeypatch):
    library = installed(monkeypatch, Library(mig=True))
    seen = nvml.find(UUID)
    reading = seen.look()
    assert seen.uuid == f"MIG-{UUID}"
    assert (reading.memory_capacity, reading.utilization) == (10 << 30, None)
    assert (reading.temperature, reading.power) == (61.0, 312.5)
    assert "nvmlDeviceGetUtilizationRates" not in {name for name, *_ in library.asked}


def test_a_mig_instance_whose_card_is_out_of_reach_still_has_its_memory(monkeypatch):
    library = installed(monkeypatch, Library(mig=True))
    library.failures["nvmlDeviceGetDeviceHandleFromMigDeviceHandle"] = library.NVML_ERROR_UNKNOWN
    reading = nvml.find(UUID).look()
    assert (reading.memory_used, reading.temperature, reading.power) == (3 << 30, None, None)


def test_every_name_that_is_used_is_one_of_the_librarys():
    real = pytest.importorskip("pynvml", reason="nvidia-ml-py is not installed")
    used = set(re.findall(r"\b(?:nvml|library|_nvml)\.(\w+)", inspect.getsource(nvml)))
    assert len(used) > 15
    assert {name for name in used if not hasattr(real, name)} == set()
    assert {name: getattr(real, name) for name in used if name.startswith("NVML_ERROR")} == {
        name: getattr(Library, name) for name in used if name.startswith("NVML_ERROR")
    }
    assert real.NVMLError(real.NVML_ERROR_GPU_IS_LOST).value == Library.NVML_ERROR_GPU_IS_LOST
    bits = {
        "power_cap": real.nvmlClocksThrottleReasonSwPowerCap,
        "hardware_slowdown": real.nvmlClocksThrottleReasonHwSlowdown,
        "thermal_software": real.nvmlClocksThrottleReasonSwThermalSlowdown,
        "thermal_hardware": real.nvmlClocksThrottleReasonHwThermalSlowdown,
        "power_brake": real.nvmlClocksThrottleReasonHwPowerBrakeSlowdown,
    }
    assert bits == nvml.THROTTLE_BITS
    assert bits.keys() == set(THROTTLES)


def test_without_the_library_there_is_nothing_to_see_and_one_line_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with capture_logs() as logs:
        assert nvml.find(UUID) is None
    assert [(line["event"], line["log_level"], line["error"]) for line in logs] == [
        ("nvml_absent", "info", "nvidia-ml-py is not installed")
    ]


@pytest.mark.parametrize(
    ("function", "code"),
    [
        ("nvmlInit", Library.NVML_ERROR_DRIVER_NOT_LOADED),
        ("nvmlSystemGetDriverVersion", Library.NVML_ERROR_UNKNOWN),
        ("nvmlDeviceGetHandleByUUID", Library.NVML_ERROR_GPU_IS_LOST),
    ],
)
def test_a_driver_that_cannot_be_asked_at_the_start_is_one_line_and_no_error(
    library, function, code
):
    library.failures[function] = code
    with capture_logs() as logs:
        assert nvml.find(UUID) is None
    assert [line["event"] for line in logs] == ["nvml_absent"]


def test_a_gpu_that_the_driver_does_not_know_is_not_mistaken_for_another(library):
    assert nvml.find("00000000-8ff3-c2dc-3b0d-fafd804516ae") is None


@pytest.mark.parametrize(
    ("bits", "reasons"),
    [
        (0x1 | 0x2 | 0x10 | 0x100, set()),  # idle, clocks that somebody set, groups, display
        (0x4, {"power_cap"}),
        (0x8 | 0x40, {"hardware_slowdown", "thermal_hardware"}),
        (0x8 | 0x80, {"hardware_slowdown", "power_brake"}),
        (0x20 | 0x200 | 0x400, {"thermal_software"}),
    ],
)
def test_what_holds_the_clock_down_is_named(library, bits, reasons):
    library.bits = bits
    throttled = nvml.find(UUID).look().throttled
    assert set(throttled) == set(THROTTLES)
    assert {reason for reason, holds in throttled.items() if holds} == reasons


def test_a_driver_before_r535_is_asked_by_the_older_name(library):
    library.bits = 0x40
    library.failures["nvmlDeviceGetCurrentClocksEventReasons"] = (
        library.NVML_ERROR_FUNCTION_NOT_FOUND
    )
    assert nvml.find(UUID).look().throttled["thermal_hardware"]


@pytest.mark.parametrize(
    ("function", "field"),
    [
        ("nvmlDeviceGetMemoryInfo", "memory_used"),
        ("nvmlDeviceGetUtilizationRates", "utilization"),
        ("nvmlDeviceGetTemperature", "temperature"),
        ("nvmlDeviceGetPowerUsage", "power"),
    ],
)
@pytest.mark.parametrize(("code", "lines"), [(3, 0), (999, 1)], ids=["unsupported", "unknown"])
def test_a_figure_that_the_driver_does_not_give_is_left_out(library, function, field, code, lines):
    seen = nvml.find(UUID)
    whole = seen.look()
    library.failures[function] = code
    with capture_logs() as logs:
        for _ in range(9):
            reading = seen.look()
    assert getattr(whole, field) is not None
    assert getattr(reading, field) is None
    assert reading.throttled == whole.throttled
    # What a GPU does not support is no failure; another is logged when it begins, not each time.
    assert [line["event"] for line in logs] == ["nvml_fails"] * lines


def test_what_the_library_raises_of_its_own_ends_nothing(library, monkeypatch):
    seen = nvml.find(UUID)
    monkeypatch.setattr(library, "answer_device_get_power_usage", lambda _: 1 / 0)
    assert seen.look().power is None


@pytest.mark.parametrize(
    "code", [Library.NVML_ERROR_GPU_IS_LOST, Library.NVML_ERROR_RESET_REQUIRED]
)
@pytest.mark.parametrize("function", ["nvmlDeviceGetMemoryInfo", "nvmlEventSetWait_v2"])
def test_a_gpu_of_which_the_driver_says_that_it_is_lost_ends_the_worker(library, function, code):
    seen = nvml.find(UUID)
    library.failures[function] = code
    with pytest.raises(DeviceLost, match="NVML says: of the fake: look for an XID"):
        seen.look()


@pytest.mark.parametrize("xid", nvml.CRITICAL_XIDS)
def test_an_xid_after_which_nobody_can_use_the_gpu_ends_the_worker(library, xid):
    seen = nvml.find(UUID)
    library.xids = [(13, nvml.ANY_INSTANCE), (xid, nvml.ANY_INSTANCE)]
    with pytest.raises(DeviceLost, match=rf"XID {xid} \(.+\): look for"):
        seen.look()


@pytest.mark.parametrize("xid", [13, 31, 43, 45, 63, 74, 94, 109, 154])
def test_an_xid_of_an_application_or_a_link_is_only_logged(library, xid):
    seen = nvml.find(UUID)
    library.xids = [(xid, nvml.ANY_INSTANCE)] * 2
    with capture_logs() as logs:
        assert seen.look().utilization == 0.42
    assert [(line["event"], line["xid"]) for line in logs] == [("xid", xid)] * 2


def test_the_xid_of_another_mig_instance_is_not_ours(monkeypatch):
    library = installed(monkeypatch, Library(mig=True))
    seen = nvml.find(UUID)
    library.xids = [(95, 3)]
    assert seen.look().memory_used == 3 << 30
    assert library.xids == []
    for instance in (7, nvml.ANY_INSTANCE):
        library.xids = [(95, instance)]
        with pytest.raises(DeviceLost):
            seen.look()


def test_a_flood_of_xids_is_read_in_several_looks(library):
    seen = nvml.find(UUID)
    library.xids = [(31, nvml.ANY_INSTANCE)] * (nvml.MOST_EVENTS + 1)
    seen.look()
    assert len(library.xids) == 1


def test_where_no_events_can_be_had_the_figures_still_are(library):
    library.failures["nvmlDeviceRegisterEvents"] = library.NVML_ERROR_NOT_SUPPORTED
    with capture_logs() as logs:
        seen = nvml.find(UUID)
    assert [line["event"] for line in logs] == ["xids_unseen"]
    library.xids = [(79, nvml.ANY_INSTANCE)]
    assert seen.look().utilization == 0.42

"""NVML by a library that answers as NVIDIA's does: status codes, results through pointers."""
# ruff: noqa: N802 - names are those of the library

import ctypes
from typing import Any

import pytest

from edgekit.agent.meters import MeterError, NvmlMeter
from edgekit.agent.nvml import Nvml, NvmlError
from edgekit.agent.power import find_meters

_NOT_SUPPORTED = 3  # NVML_ERROR_NOT_SUPPORTED


class Library:
    """`energy` in mJ and `power` in mW; None: not supported."""

    def __init__(self, energy: int | None, power: int | None, driver: bool = True) -> None:
        self.energy, self.power, self.driver = energy, power, driver

    def nvmlInit_v2(self) -> int:
        return 0 if self.driver else 9

    def nvmlDeviceGetHandleByIndex_v2(self, index: Any, device: Any) -> int:
        return 0 if index.value == 0 else 2

    def nvmlDeviceGetName(self, device: Any, name: Any, length: Any) -> int:
        name.value = b"NVIDIA H200"
        return 0

    def nvmlDeviceGetTotalEnergyConsumption(self, device: Any, result: Any) -> int:
        return self._answer(self.energy, result, ctypes.c_ulonglong)

    def nvmlDeviceGetPowerUsage(self, device: Any, result: Any) -> int:
        return self._answer(self.power, result, ctypes.c_uint)

    def _answer(self, value: int | None, result: Any, kind: Any) -> int:
        if value is None:
            return _NOT_SUPPORTED
        ctypes.cast(result, ctypes.POINTER(kind))[0] = value
        return 0


def test_a_gpu_that_counts_energy_is_read_by_its_counter():
    library = Library(5_000_123, 76_500)
    meter = NvmlMeter(Nvml(load=lambda: library))
    assert (meter.counts, meter.rails, meter.of_gpu) == (True, ("NVIDIA H200",), True)
    assert meter.read() == pytest.approx(5000.123)
    library.energy = 5_000_623
    assert meter.read() == pytest.approx(5000.623)


def test_a_gpu_without_a_counter_is_read_by_its_power():
    meter = NvmlMeter(Nvml(load=lambda: Library(None, 76_500)))
    assert (meter.counts, meter.read()) == (False, 76.5)


def test_an_orin_says_not_supported():
    with pytest.raises(MeterError, match="NOT_SUPPORTED for power and energy of NVIDIA H200"):
        NvmlMeter(Nvml(load=lambda: Library(None, None)))


def test_the_reason_reaches_who_looks_for_a_meter(tmp_path):
    found, reasons = find_meters(tmp_path, nvml=lambda: Nvml(load=lambda: Library(None, None)))
    assert found == []
    assert reasons == ["NVML answers NOT_SUPPORTED for power and energy of NVIDIA H200"]


def test_no_driver_and_no_such_gpu_are_errors():
    with pytest.raises(NvmlError, match="no driver"):
        Nvml(load=lambda: Library(1, 1, driver=False))
    with pytest.raises(NvmlError, match="no GPU 4"):
        Nvml(4, load=lambda: Library(1, 1))

"""NVML, the library of NVIDIA's driver, by ctypes: power and energy of one GPU.

It loads on a Jetson too and answers NOT_SUPPORTED there: power of a Jetson is in its INA3221 rails.
"""

from __future__ import annotations

import ctypes
from typing import Any, Callable

_SUCCESS = 0
_NAME_BYTES = 96  # NVML_DEVICE_NAME_V2_BUFFER_SIZE


class NvmlError(Exception):
    """There is no NVML here, or no such GPU."""


def _library() -> Any:
    return ctypes.CDLL("libnvidia-ml.so.1")


class Nvml:
    """One GPU. Functions and their numbers: NVIDIA, NVML API Reference, nvmlDeviceGet*.

    Args:
        index: of the GPU, as NVML counts.
        load: gives the library; a test hands in its own.

    Raises:
        NvmlError: no library, no driver, or no such GPU.
    """

    def __init__(self, index: int = 0, load: Callable[[], Any] = _library) -> None:
        try:
            self._library = load()
        except OSError as err:
            raise NvmlError(str(err)) from err
        if self._library.nvmlInit_v2() != _SUCCESS:
            raise NvmlError("NVML finds no driver")
        self._device = ctypes.c_void_p()
        if self._library.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(index), ctypes.byref(self._device)) != _SUCCESS:
            raise NvmlError(f"NVML has no GPU {index}")
        name = ctypes.create_string_buffer(_NAME_BYTES)
        known = self._library.nvmlDeviceGetName(self._device, name, ctypes.c_uint(_NAME_BYTES)) == _SUCCESS
        self.name = name.value.decode("utf-8", "replace") if known else f"GPU {index}"

    def energy_j(self) -> float | None:
        """Joules since the driver was loaded; None: NOT_SUPPORTED (GPUs before Volta, and every Jetson)."""
        millijoules = ctypes.c_ulonglong()
        status = self._library.nvmlDeviceGetTotalEnergyConsumption(self._device, ctypes.byref(millijoules))
        return millijoules.value / 1e3 if status == _SUCCESS else None

    def power_w(self) -> float | None:
        """Watts now; None: NOT_SUPPORTED."""
        milliwatts = ctypes.c_uint()
        status = self._library.nvmlDeviceGetPowerUsage(self._device, ctypes.byref(milliwatts))
        return milliwatts.value / 1e3 if status == _SUCCESS else None

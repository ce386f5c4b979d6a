"""Every transport, by the name that devices.yaml calls it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from edgekit.devices.local import LocalTransport
from edgekit.devices.simulated import SimulatedTransport
from edgekit.devices.ssh import SshTransport
from edgekit.devices.transport import Transport
from edgekit.errors import DeviceError
from edgekit.schema.device import Device

TRANSPORTS: Mapping[str, Callable[[Device], Transport]] = {
    "local": LocalTransport,
    "ssh": SshTransport,
    "simulated": SimulatedTransport,
}


def connect(device: Device, transports: Mapping[str, Callable[[Device], Transport]] = TRANSPORTS) -> Transport:
    """What reaches `device`.

    Raises:
        DeviceError: no such transport, or the device does not answer.
    """
    if device.transport not in transports:
        raise DeviceError(
            f"no transport is called {device.transport!r}",
            f"device {device.name}",
            f"transports: {', '.join(sorted(transports))}",
        )
    return transports[device.transport](device)

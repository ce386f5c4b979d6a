"""Devices: boards that answer now."""

from typing import Literal

from pydantic import Field

from edgekit.schema.base import Record


class Device(Record):
    """One board: how it is reached and which target it is of. No secrets here."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    target: str = Field(description="name of its target")
    transport: Literal["local"] = "local"
    stand_in_for: str | None = Field(
        None, description="target that this machine only stands in for (emulator, host CPU)"
    )


class Devices(Record):
    """devices.yaml."""

    devices: tuple[Device, ...] = ()

"""Devices: boards that answer now."""

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from edgekit.schema.base import Record
from edgekit.schema.simulated import Simulation

TransportName = Literal["local", "ssh", "simulated"]


class PowerMeter(Record):
    """A power meter of the user's own: a command that prints watts, one reading a line, until it is ended."""

    meter: tuple[str, ...] = Field(min_length=1, description="the command and its arguments")
    on: Literal["here", "device"] = Field("here", description="where it runs: beside edgekit, or on the board")


class Device(Record):
    """One board: how it is reached and which target it is of.

    There is no place for a password or a key: ssh takes them from ~/.ssh/config, its agent, or the file `ssh_config`.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    target: str = Field(description="name of its target")
    transport: TransportName = "local"
    address: str | None = Field(
        None, pattern=r"^[^-\s@][^\s@]*$", description="ssh: host name, IP address, or a Host of ~/.ssh/config"
    )
    user: str | None = Field(
        None, pattern=r"^[^-\s@]+$", description="ssh: who to log in as; none: as ssh is configured"
    )
    port: int | None = Field(None, ge=1, le=65535, description="ssh: none: as ssh is configured")
    ssh_config: Path | None = Field(None, description="ssh: a file instead of ~/.ssh/config, as `ssh -F` takes it")
    python: str | None = Field(
        None, min_length=1, description="what starts Python 3.8 or newer there; none: python3, or this Python if local"
    )
    python_of: dict[str, str] = Field(
        default_factory=dict, description="runtime: the Python of the environment that it is installed in"
    )
    stand_in_for: str | None = Field(
        None, description="target that this machine only stands in for (emulator, host CPU)"
    )
    power: PowerMeter | None = Field(None, description="none: the board's own sensors, where it has any")
    simulate: Simulation | None = Field(None, description="simulated: what happens, and when")

    @model_validator(mode="after")
    def _reachable(self) -> "Device":
        over_ssh = [key for key in ("address", "user", "port", "ssh_config") if getattr(self, key) is not None]
        if self.transport == "ssh" and self.address is None:
            raise ValueError("transport ssh needs an address")
        if self.transport != "ssh" and over_ssh:
            raise ValueError(f"only transport ssh has {', '.join(over_ssh)}")
        if (self.transport == "simulated") != (self.simulate is not None):
            raise ValueError("transport simulated and a section simulate belong together")
        if self.transport == "simulated" and self.stand_in_for is None:
            raise ValueError("a simulated board must say stand_in_for: nothing that it tells was measured")
        return self


class Devices(Record):
    """devices.yaml."""

    devices: tuple[Device, ...] = ()

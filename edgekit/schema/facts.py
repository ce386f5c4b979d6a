"""Facts: what the agent read about a board for `edgekit doctor`. None or empty: could not be read there."""

from typing import Literal

from edgekit.schema.base import Record


class PythonFacts(Record):
    """The Python that starts the agent."""

    version: str
    executable: str
    bits: int
    virtual: bool
    externally_managed: bool
    pip: bool
    venv: bool


class ImportFacts(Record):
    """How importing one library ended: `absent` is not installed, `failed` is installed and cannot be used."""

    state: Literal["ok", "absent", "failed"]
    version: str
    file: str
    providers: tuple[str, ...]
    python: str
    error: str


class SystemFacts(Record):
    """Operating system, C library and board."""

    name: str
    id: str
    version: str
    kernel: str
    architecture: str
    libc: str | None
    board: str | None


class JetsonFacts(Record):
    """L4T, NVIDIA's packages and the power modes of a Jetson; `modes` is number -> name."""

    l4t: str | None
    packages: dict[str, str]
    mode: str | None
    modes: dict[str, str]
    trtexec: str | None
    cuda: str | None


class ProcessorFacts(Record):
    """One processor's clock: `limit_khz` is what the hardware can, `max_khz` what is allowed."""

    governor: str
    governors: tuple[str, ...]
    min_khz: int | None
    max_khz: int | None
    limit_khz: int | None


class GpuFacts(Record):
    """The clock of a Tegra's GPU."""

    path: str
    governor: str
    min_hz: int | None
    max_hz: int | None


class PowerFacts(Record):
    """Clocks, temperature and the Raspberry Pi's throttle flags."""

    processors: tuple[ProcessorFacts, ...]
    gpu: GpuFacts | None
    online: str
    count: int | None
    temp_c: float | None
    throttle_flags: int | None


class SwapFacts(Record):
    """One swap file, partition or zram device."""

    path: str
    bytes: int
    used_bytes: int


class MemoryFacts(Record):
    """Memory of the whole board."""

    total_bytes: int | None
    available_bytes: int | None
    swaps: tuple[SwapFacts, ...]


class DiskFacts(Record):
    """The disk that jobs run on."""

    folder: str
    total_bytes: int
    free_bytes: int


class DeviceFile(Record):
    """A device file: what it is for, whether this user may use it, and the group that might."""

    need: Literal["gpu", "firmware", "i2c", "gpio"]
    path: str
    group: str
    usable: bool
    group_may: bool


class AccessFacts(Record):
    """The user, and what it may use. `known`: groups for hardware that this system has."""

    user: str
    home: str
    root: bool
    groups: tuple[str, ...]
    files: tuple[DeviceFile, ...]
    known: tuple[str, ...]


class IdentityFacts(Record):
    """Digests of the machine id and of the board's serial number; `profile` is what profiles of this board carry."""

    machine_id: str | None
    serial: str | None
    profile: str | None


class Leftover(Record):
    """A folder of another job."""

    path: str
    age_s: float


class Busy(Record):
    """A process and how many processors it used."""

    name: str
    processors: float


class LoadFacts(Record):
    """What else runs."""

    average: float | None
    busiest: tuple[Busy, ...]


class Facts(Record):
    """Everything that `edgekit.agent.doctor.facts` gives."""

    agent_version: str
    python: PythonFacts
    packages: dict[str, str]
    imports: dict[str, ImportFacts]
    system: SystemFacts
    jetson: JetsonFacts | None
    power: PowerFacts
    memory: MemoryFacts
    disk: DiskFacts
    access: AccessFacts
    identity: IdentityFacts
    leftovers: tuple[Leftover, ...]
    load: LoadFacts

"""Peak memory of a piece of work, on Linux. Standard library only: peers' environments use it too."""

from pathlib import Path


class Memory:
    """How much the resident memory of this process has grown since this was made, at its peak."""

    def __init__(self) -> None:
        # 5 resets the peak to what is resident now (Linux); elsewhere the peak of the whole process stays
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        self._before_mb = _status_mb("VmRSS")

    def grown_mb(self) -> float:
        """Peak since then less what was resident then, in MB of 10^6 bytes."""
        return _status_mb("VmHWM") - self._before_mb


def _status_mb(name: str) -> float:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith(name))

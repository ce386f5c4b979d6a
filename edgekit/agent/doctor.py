"""The job `doctor`: facts about a board, read and not judged. The host turns them into advice.

This module and the two that it gathers from must run where the agent itself cannot: on the Python 3.6 of JetPack 4, and
without numpy. So the host calls `main` directly, nothing here imports numpy, and the syntax stays that of Python 3.6.
"""

import json
import sys
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Tuple

import edgekit
from edgekit.agent.doctor_libraries import python_facts, read_imports, read_packages
from edgekit.agent.doctor_system import (
    read_access,
    read_disk,
    read_identity,
    read_jetson,
    read_leftovers,
    read_load,
    read_memory,
    read_power,
    read_system,
)

ROOT = Path("/")


def doctor(job: Mapping[str, Any], folder: Path) -> Dict[str, Any]:
    """The facts, as `edgekit.schema.facts.Facts` takes them. Job key: pythons {runtime: what starts its Python}."""
    return facts(folder, job.get("pythons", {}))


def facts(folder: Path, pythons: Mapping[str, str], root: Path = ROOT) -> Dict[str, Any]:
    """Everything that is known of this board.

    Args:
        folder: where jobs run, so the disk that matters.
        pythons: runtime -> what starts the Python that has it; this one where it is not named.
        root: of the file system that is read.
    """
    temp_c, flags, identity = _sensors(root)
    return {
        "agent_version": edgekit.__version__,
        "python": python_facts(),
        "packages": read_packages(sys.path),
        "imports": read_imports(pythons),
        "system": read_system(root),
        "jetson": read_jetson(root),
        "power": dict(read_power(root), temp_c=temp_c, throttle_flags=flags),
        "memory": read_memory(root),
        "disk": read_disk(folder),
        "access": read_access(root),
        "identity": dict(read_identity(root), profile=identity),
        "leftovers": read_leftovers(folder),
        "load": read_load(root),
    }


def main(arguments: List[str]) -> int:
    """Print the facts as one line of JSON. Arguments: the job's folder, and `pythons` as JSON."""
    print(json.dumps(facts(Path(arguments[0]), json.loads(arguments[1]))))
    return 0


def _sensors(root: Path) -> Tuple[Optional[float], Optional[int], Optional[str]]:
    """Temperature, throttle flags, and the identity that profiles carry, by the code that measures."""
    try:
        from edgekit.agent.sensors import machine_identity, read_sensors
    except SyntaxError:  # Python 3.6
        return None, None, None
    reading = read_sensors(root)
    return reading.temp_c, reading.throttle.flags, machine_identity(root)

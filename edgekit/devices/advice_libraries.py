"""Advice on a board's Python, C library and runtimes. Facts and a target in, checks out; nothing is read here."""

from __future__ import annotations

import re

from edgekit.devices.checks import Check
from edgekit.devices.wheels import install, newest, python_entry
from edgekit.schema.facts import Facts, ImportFacts
from edgekit.schema.target import Target

PACKAGES = {"onnxruntime": "onnxruntime", "litert": "ai-edge-litert", "tflite-runtime": "tflite-runtime"}
_ENVIRONMENT = "$HOME/edgekit-env"


def advise_libraries(facts: Facts, target: Target, *, stand_in: bool = False) -> list[Check]:
    """Python, C library, numpy, and every runtime that the target's formats name.

    `stand_in`: devices.yaml says that it is other hardware than the target's.
    """
    return [
        check_python(facts),
        check_architecture(facts, target, stand_in=stand_in),
        check_libc(facts),
        check_numpy(facts),
        *check_runtimes(facts, target),
        *check_flavours(facts),
    ]


def check_python(facts: Facts) -> Check:
    """The agent needs Python 3.8, and wheels a 64-bit one."""
    python = facts.python
    kind = ", in an environment" if python.virtual else ""
    found = f"{python.version}, {python.bits}-bit, {python.executable}{kind}"
    if python.bits == 32 and facts.system.architecture in {"aarch64", "armv8l"}:
        # PyPI has no Linux wheels of onnxruntime and ai-edge-litert for 32-bit Arm
        fix = "install the 64-bit edition of the system: no runtime publishes packages for 32-bit Arm"
        return Check("python", "broken", f"{found}: a 32-bit system on a 64-bit processor", fix)
    if version(python.version) >= (3, 8):
        return Check("python", "ok", found)
    if facts.system.id == "ubuntu":  # 18.04, so JetPack 4: python3.8 is in its `universe`
        made = f"sudo apt install -y python3.8 python3.8-venv && python3.8 -m venv {_ENVIRONMENT}"
        numpy = f"{_ENVIRONMENT}/bin/python -m pip install --upgrade pip numpy"
        return Check("python", "broken", f"{found}: too old for the agent", f"{made} && {numpy}; {python_entry(facts)}")
    fix = "install a system with Python 3.8 or newer: Debian 11, Ubuntu 20.04, JetPack 5"
    return Check("python", "broken", f"{found}: too old for the agent", fix)


def check_architecture(facts: Facts, target: Target, *, stand_in: bool = False) -> Check:
    """The board is of its target's architecture, or devices.yaml names the wrong target."""
    system = facts.system
    board = f"{system.board}, " if system.board else ""
    found = f"{board}{system.architecture}, {system.name or 'no name of the system'}, kernel {system.kernel}"
    if system.architecture == target.architecture:
        return Check("system", "ok", found)
    if stand_in:
        return Check("system", "ok", f"{found}; stands in for {target.architecture}")
    fix = f"{target.name} is {target.architecture}: correct its `target` in devices.yaml, or set `stand_in_for` there"
    return Check("system", "broken", found, fix)


def check_libc(facts: Facts) -> Check:
    """Wheels tagged manylinux_2_28 need glibc 2.28, so JetPack 4 (2.27) cannot have them. Source: PEP 600."""
    libc = facts.system.libc
    if libc is None or not libc.startswith("glibc "):
        fix = "use a system with the GNU C library: wheels of the runtimes are built for it"
        return Check("libc", "problem", libc or "not the GNU C library", fix)
    if version(libc) >= (2, 28):
        return Check("libc", "ok", libc)
    fix = "pip takes older versions of the runtimes by itself; for newer ones install JetPack 5, or Debian 10, or later"
    return Check("libc", "problem", f"{libc}: wheels tagged manylinux_2_28 do not install", fix)


def check_numpy(facts: Facts) -> Check:
    """The agent needs numpy."""
    numpy = facts.imports["numpy"]
    if numpy.state == "ok":
        return Check("numpy", "ok", numpy.version)
    if numpy.state == "absent":
        return Check("numpy", "broken", "not installed", install(facts, "numpy"))
    return Check("numpy", "broken", numpy.error, install(facts, "--force-reinstall numpy"))


def check_runtimes(facts: Facts, target: Target) -> list[Check]:
    """One line a runtime. Without any of them nothing can be measured; the first is what the target is for."""
    wanted = list(dict.fromkeys(row.runtime for row in target.formats))
    works = {name: _works(facts, name) for name in wanted}
    checks = []
    for name in wanted:
        missing = "broken" if not any(works.values()) else "problem" if name == wanted[0] else "absent"
        check = check_trtexec(facts) if name == "trtexec" else check_runtime(facts, name)
        if check.state == "absent":
            check = Check(check.name, missing, check.found, check.fix)  # type: ignore[arg-type]
        checks.append(check)
    return checks


def check_runtime(facts: Facts, name: str) -> Check:
    """Whether a runtime imports; where it does not, why."""
    state = facts.imports.get(name)
    if state is None:
        return Check(f"runtime {name}", "problem", "the agent has no such runtime", "use a target with another one")
    if state.state == "failed":
        return Check(f"runtime {name}", "problem", state.error, _mend(facts, name, state))
    if state.state == "absent":
        return Check(f"runtime {name}", "absent", "not installed", _obtain(facts, name))
    found = f"{state.version}, {', '.join(state.providers)}" if state.providers else state.version
    if state.python != facts.python.executable:
        found = f"{found}, by {state.python}"
    if name == "tensorrt":
        return _check_tensorrt(facts, found, state)
    return Check(f"runtime {name}", "ok", found)


def _check_tensorrt(facts: Facts, found: str, state: ImportFacts) -> Check:
    jetson = facts.jetson
    library = next(
        (f"{name} {number}" for name, number in jetson.packages.items() if re.fullmatch(r"libnvinfer\d+", name))
        if jetson
        else iter(()),
        None,
    )
    if jetson and jetson.cuda:
        found = f"{found}, CUDA {jetson.cuda}"
    found = f"{found}, {library}" if library else found
    if library and version(library.partition(" ")[2])[:2] != version(state.version)[:2]:
        # a wheel from PyPI brings its own library; an engine fits one version alone (NVIDIA/TensorRT#2105)
        fix = "python3 -m pip uninstall -y tensorrt, so that the system's own is imported"
        return Check("runtime tensorrt", "problem", f"{found}: two versions, and an engine fits one", fix)
    numpy = facts.imports["numpy"].version
    if version(state.version) < (8, 6) and version(numpy) >= (1, 24):
        # its nptype() reads np.bool, which numpy 1.24 removed (NVIDIA/TensorRT#2557)
        fix = install(facts, "'numpy<1.24'")
        return Check("runtime tensorrt", "problem", f"{found}: its Python part fails with numpy {numpy}", fix)
    return Check("runtime tensorrt", "ok", found)


def check_trtexec(facts: Facts) -> Check:
    """The program that builds and times engines where Python is too old."""
    path = facts.jetson.trtexec if facts.jetson else None
    if path:
        return Check("runtime trtexec", "ok", path)
    return Check("runtime trtexec", "absent", "not installed", "sudo apt update && sudo apt install -y libnvinfer-bin")


def check_flavours(facts: Facts) -> list[Check]:
    """Two flavours of ONNX Runtime overwrite each other's files (microsoft/Olive#557)."""
    flavours = sorted(name for name in facts.packages if name.startswith("onnxruntime"))
    flavours = [name for name in flavours if name not in {"onnxruntime-extensions", "onnxruntime-genai"}]
    if len(flavours) < 2:
        return []
    keep = next((name for name in flavours if name != "onnxruntime"), flavours[0])
    start = facts.python.executable
    fix = f"{start} -m pip uninstall -y {' '.join(flavours)} && {install(facts, keep)}"
    return [Check("ONNX Runtime flavours", "problem", f"{', '.join(flavours)} share one folder", fix)]


def _works(facts: Facts, name: str) -> bool:
    if name == "trtexec":
        return facts.jetson is not None and facts.jetson.trtexec is not None
    return name in facts.imports and facts.imports[name].state == "ok"


def _obtain(facts: Facts, name: str) -> str:
    """How to get a runtime that is not there."""
    if name == "tensorrt":
        return _obtain_tensorrt(facts)
    package = PACKAGES[name]
    number = newest(package, facts)
    if number is not None:
        return install(facts, f"{package}=={number}")
    nothing = f"no {package} is published for Python {facts.python.version}, {facts.system.libc or 'this C library'}"
    former = newest("tflite-runtime", facts)  # LiteRT under its old name, for older Pythons
    if name == "litert" and former is not None:
        command = install(facts, f"tflite-runtime=={former} 'numpy<2'")
        return f"{nothing}; its predecessor: {command}, and a target of your own whose runtime is tflite-runtime"
    return f"{nothing}: use an environment with another Python, or another runtime of the target"


def _obtain_tensorrt(facts: Facts) -> str:
    jetson = facts.jetson
    if jetson is None:
        return install(facts, "tensorrt")
    if any(name.startswith("python3-libnvinfer") for name in jetson.packages):
        # it lies in the system's dist-packages, for the system's own Python alone
        if facts.python.virtual:
            return (
                f"/usr/bin/python3 -m venv --system-site-packages {_ENVIRONMENT}: the system has it, and this "
                f"environment does not see it; {python_entry(facts)}"
            )
        return "set `python: /usr/bin/python3` for this device in devices.yaml: the system's Python has it"
    return "sudo apt update && sudo apt install -y nvidia-jetpack"  # JetPack documentation, package management


def _mend(facts: Facts, name: str, state: ImportFacts) -> str:
    """How to repair a runtime that is there and fails."""
    if "compiled for numpy 1" in state.error:
        # tflite-runtime 2.14.0, its last, was built before numpy 2; LiteRT is its successor
        other = " or, in its place: " + _obtain(facts, "litert") if name == "tflite-runtime" else ""
        return install(facts, "'numpy<2'") + other
    if "SIGILL" in state.error:
        older = install(facts, f"'{PACKAGES.get(name, name)}<{state.version or 'the one installed'}'")
        return f"{older}: it uses instructions that this processor does not have"
    if "cannot open shared object file" in state.error and name == "tensorrt":
        again = "sudo apt update && sudo apt install -y --reinstall nvidia-jetpack"
        return f"{again}; in a container: start it with --runtime nvidia"
    if "GLIBC" in state.error:
        return f"the package is for a newer system: {_obtain(facts, name)}"
    if "does not start" in state.error:
        return "correct `python_of` of this device in devices.yaml"
    if "took over" in state.error:
        return f"time {state.python} -c 'import {name.replace('-', '_')}' on the board says whether it ever ends"
    if name == "tensorrt":
        return _obtain_tensorrt(facts)
    return install(facts, f"--force-reinstall {PACKAGES.get(name, name)}")


def version(text: str) -> tuple[int, ...]:
    """Leading numbers of a version, after any word: `glibc 2.31` -> (2, 31); empty where there are none."""
    match = re.search(r"\d+(?:\.\d+)*", text)
    return tuple(int(part) for part in match[0].split(".")) if match else ()

"""Records what TensorRT's Python bindings and CUDA's runtime library offer, as small JSON files beside this one.

    python record.py tensorrt WHEEL.whl PYTHON OUT.json     PYTHON: an interpreter that the wheel was made for
    python record.py cudart WHEEL.whl OUT.json

The wheels are the small ones of bindings (tensorrt-bindings, tensorrt-cu12-bindings) and of CUDA's runtime
(nvidia-cuda-runtime*), as `pip download --no-deps` gets them. The bindings want TensorRT's libraries when they are
imported; empty ones made here with `cc` do, because nothing of them is called: pybind11's classes and their signatures
are in the bindings themselves. Needs no GPU and no TensorRT.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

CLASSES = [
    "BuilderFlag",
    "Builder",
    "DataType",
    "DeviceType",
    "EngineInspector",
    "ExecutionContextAllocationStrategy",
    "IBuilderConfig",
    "ICudaEngine",
    "IExecutionContext",
    "IHostMemory",
    "ILayer",
    "ILogger",
    "INetworkDefinition",
    "IOptimizationProfile",
    "IProfiler",
    "IProgressMonitor",
    "ITensor",
    "ITimingCache",
    "LayerInformationFormat",
    "LayerType",
    "MemoryPoolType",
    "NetworkDefinitionCreationFlag",
    "OnnxParser",
    "ParserError",
    "ProfilingVerbosity",
    "Runtime",
    "TensorIOMode",
]

INSIDE = """
import json, sys
sys.path.insert(0, sys.argv[1])
import tensorrt
found = {}
for name in sys.argv[2:]:
    kind = getattr(tensorrt, name, None)
    if kind is not None:
        found[name] = {
            key: getattr(getattr(kind, key), "__doc__", None) if callable(getattr(kind, key)) else None
            for key in dir(kind)
            if not key.startswith("_") or key == "__init__"
        }
print(json.dumps(found))
"""


def tensorrt(wheel: Path, python: str, out: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        zipfile.ZipFile(wheel).extractall(folder)
        package = Path(folder) / "tensorrt_bindings"
        needed = subprocess.run(["readelf", "-d", package / "tensorrt.so"], capture_output=True, text=True, check=True)
        symbols = subprocess.run(
            ["nm", "-D", "--undefined-only", package / "tensorrt.so"], capture_output=True, text=True, check=True
        )
        names = re.findall(r" U (\w+)$", symbols.stdout, re.MULTILINE)  # system libraries' have an @VERSION
        code = "".join(
            f"void *{name}(void) {{ return 0; }}\n" for name in names if not name.startswith("Py") and name[:3] != "_Py"
        )
        (Path(folder) / "stub.c").write_text(code)
        for library in re.findall(r"\[(libnv\w+\.so\.\d+)\]", needed.stdout):
            argv = ["cc", "-shared", "-fPIC", "-w", "-fno-builtin", "-o", library, "stub.c", f"-Wl,-soname,{library}"]
            subprocess.run(argv, cwd=folder, check=True)
        done = subprocess.run(
            [python, "-c", INSIDE, str(package), *CLASSES],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "LD_LIBRARY_PATH": folder},
        )
    version = re.search(r"-(\d+\.\d+\.\d+)", wheel.name)
    assert version is not None
    classes = {
        kind: {name: arguments(name, doc) for name, doc in members.items()}
        for kind, members in json.loads(done.stdout).items()
    }
    write(out, {"version": version[1], "wheel": wheel.name, "classes": classes})


def arguments(name: str, doc: str | None) -> list[list[str]] | None:
    """The names of the arguments of every overload, without self; None: no function, or no signature."""
    overloads = re.findall(rf"(?:^|\d+\. ){re.escape(name)}\((self: [^\n]*)\) -> ", doc or "", re.MULTILINE)
    if not overloads:
        return None
    found = []
    for text in overloads:
        while re.search(r"\[[^\[\]]*\]|<[^<>]*>", text):  # commas of List[int], and of defaults such as <Severity: 2>
            text = re.sub(r"\[[^\[\]]*\]|<[^<>]*>", "", text)
        found.append(
            [re.split(r"[:=]", part)[0].strip() + ("=" if "=" in part else "") for part in text.split(",")][1:]
        )
    return found


def cudart(wheel: Path, out: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        zipfile.ZipFile(wheel).extractall(folder)
        (library,) = Path(folder).rglob("libcudart.so.*")
        done = subprocess.run(["nm", "-D", "--defined-only", library], capture_output=True, text=True, check=True)
        names = sorted(set(re.findall(r" T (cuda\w+)", done.stdout)))
        write(out, {"wheel": wheel.name, "library": library.name, "functions": names})


def write(out: Path, content: object) -> None:
    text = json.dumps(content, indent=1, sort_keys=True)
    text = re.sub(r"\[\s+([^\[\]]*?)\s+\]", lambda found: "[" + re.sub(r"\s+", " ", found[1]) + "]", text)
    out.write_text(text + "\n")


if __name__ == "__main__":
    kind, wheel, *rest = sys.argv[1:]
    if kind == "tensorrt":
        tensorrt(Path(wheel), rest[0], Path(rest[1]))
    else:
        cudart(Path(wheel), Path(rest[0]))

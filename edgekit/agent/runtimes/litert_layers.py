"""Times of a TFLite file's operators, by the profiler of LiteRT's C library, which its Python packages do not offer.

Called by ctypes on the `libLiteRt.so` that lies in the `ai-edge-litert` package. Source of the functions, structures
and option strings: LiteRT 2.3, litert/c/*.h and litert/c/options/*.cc. Other versions may lay them out otherwise, so
`KNOWN_VERSIONS` names those that were tried.
"""

from __future__ import annotations

import ctypes
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Mapping

import numpy as np

from edgekit.agent.errors import AgentError

if TYPE_CHECKING:
    from numpy.typing import NDArray

KNOWN_VERSIONS = ("2.3.",)
_CPU = 1
_WRITE = 1
_MAX_RANK = 8
# Event types: an operator of the interpreter, and two ways in which a delegate tells of its own. The delegate as a
# whole has no event of its own here.
_OPERATORS = (2, 4, 8)
_RUN = "Invoke"
# XNNPACK's data types; P says that weights or inputs are packed
_PRECISIONS = {"F32": "fp32", "F16": "fp16", "BF16": "bf16", "QS8": "int8", "QC8": "int8", "QU8": "int8", "QD8": "int8"}
_PRECISIONS.update({"PF32": "fp32", "PF16": "fp16", "PQS8": "int8", "QP8": "int8"})


class _Layout(ctypes.Structure):
    _fields_ = (
        ("rank", ctypes.c_uint, 7),
        ("has_strides", ctypes.c_uint, 1),
        ("dimensions", ctypes.c_int32 * _MAX_RANK),
        ("strides", ctypes.c_uint32 * _MAX_RANK),
    )


class _TensorType(ctypes.Structure):
    _fields_ = (("element_type", ctypes.c_int), ("layout", _Layout))


class _Event(ctypes.Structure):
    _fields_ = (
        ("tag", ctypes.c_char_p),
        ("event_type", ctypes.c_int),
        ("start_us", ctypes.c_uint64),
        ("elapsed_us", ctypes.c_uint64),
        ("memory", ctypes.c_size_t * 6),
        ("node", ctypes.c_uint64),
        ("subgraph", ctypes.c_uint64),
        ("source", ctypes.c_int),
    )


def profile_operators(
    library: Path, path: Path, threads: int, feeds: Mapping[str, NDArray[Any]], runs: int
) -> list[dict[str, Any]]:
    """One row {name, operator, mean_ms, runs, precision} per operator, in order of execution.

    XNNPACK does not know the names of the file's tensors: a row is named by the kernel and its place. Times come in
    whole microseconds, so what is much shorter than one reads 0.

    Args:
        library: libLiteRt.so.
        feeds: by name of the signature's inputs, or of the tensors.
        runs: that count, after one that does not.

    Raises:
        AgentError: the library refuses.
    """
    with _Model(_Library(library), path, threads) as model:
        model.feed(feeds)
        model.run()
        events = model.profiled(runs)
    return operator_rows(events, runs)


def operator_rows(events: list[tuple[str, int, int]], runs: int) -> list[dict[str, Any]]:
    """Rows from (tag, event type, microseconds) of some runs, each begun by `Invoke`.

    Raises:
        AgentError: the runs are not of the same operators.
    """
    found: list[list[tuple[str, int]]] = []
    for tag, kind, elapsed_us in events:
        if kind == 1 and tag == _RUN:
            found.append([])
        elif kind in _OPERATORS and found:
            found[-1].append((tag, elapsed_us))
    if len(found) != runs or any([tag for tag, _ in run] != [tag for tag, _ in found[0]] for run in found):
        raise AgentError(
            f"{len(found)} runs of {sorted({len(run) for run in found})} operators were seen, {runs} were made",
            "LiteRT's profiler",
            "measure without layers; LiteRT's benchmark_model has --enable_op_profiling=true",
        )
    rows = []
    for place, (tag, _) in enumerate(found[0]):
        mean_us = sum(run[place][1] for run in found) / runs
        rows.append(
            {
                "name": f"{place} {tag}",
                "operator": tag.partition(" (")[0],
                "mean_ms": mean_us / 1e3,
                "runs": runs,
                "precision": precision_of(tag),
            }
        )
    return rows


def precision_of(tag: str) -> str | None:
    """What XNNPACK's name of a kernel says: `Convolution (NHWC, QC8) IGEMM` is int8; None: nothing of the kind."""
    match = re.search(r"\(([^)]*)\)", tag)
    for word in match[1].replace(",", " ").split() if match else ():
        if word in _PRECISIONS:
            return _PRECISIONS[word]
    return None


class _Library:
    """Functions that return a status, 0 for none."""

    def __init__(self, path: Path) -> None:
        try:
            self._functions = ctypes.CDLL(str(path))
        except OSError as err:
            raise AgentError(
                f"LiteRT's C library cannot be loaded: {err}", str(path), "measure without layers"
            ) from err
        self._c = ctypes.CDLL(None)
        self._c.strdup.restype = ctypes.c_void_p
        self.free = ctypes.cast(self._c.free, ctypes.c_void_p)

    def __call__(self, name: str, *arguments: Any) -> None:
        status = getattr(self._functions, name)(*arguments)
        if status != 0:
            raise AgentError(f"{name} gives status {status}", "LiteRT's C library", "measure without layers")

    def copied(self, text: str) -> ctypes.c_void_p:
        """A string that the library frees."""
        return ctypes.c_void_p(self._c.strdup(text.encode()))

    def destroy(self, name: str, handle: ctypes.c_void_p) -> None:
        if handle:
            getattr(self._functions, f"LiteRtDestroy{name}")(handle)


class _Model:
    """One file, compiled for the processor with its profiler, and the buffers of its one signature."""

    def __init__(self, call: _Library, path: Path, threads: int) -> None:
        self._call, self._path, self._threads = call, path, threads
        self._environment, self._model, self._options = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_void_p()
        self._compiled, self._signature = ctypes.c_void_p(), ctypes.c_void_p()
        self._inputs: list[tuple[set[str], ctypes.c_void_p]] = []
        self._outputs: list[tuple[set[str], ctypes.c_void_p]] = []

    def __enter__(self) -> _Model:
        call, ref = self._call, ctypes.byref
        call("LiteRtCreateEnvironment", 0, None, ref(self._environment))
        call("LiteRtCreateModelFromFile", self._environment, str(self._path).encode(), ref(self._model))
        call("LiteRtCreateOptions", ref(self._options))
        call("LiteRtSetOptionsHardwareAccelerators", self._options, _CPU)
        self._add_options("runtime_options_string", "enable_profiling = true\n")
        self._add_options("xnnpack", f"num_threads = {self._threads}\n")
        call("LiteRtCreateCompiledModel", self._environment, self._model, self._options, ref(self._compiled))
        call("LiteRtGetModelSignature", self._model, ctypes.c_size_t(0), ref(self._signature))
        self._inputs, self._outputs = self._buffers("Input"), self._buffers("Output")
        return self

    def __exit__(self, *error: object) -> None:
        for _, buffer in (*self._inputs, *self._outputs):
            self._call.destroy("TensorBuffer", buffer)
        self._call.destroy("CompiledModel", self._compiled)
        self._call.destroy("Options", self._options)
        self._call.destroy("Model", self._model)
        self._call.destroy("Environment", self._environment)

    def feed(self, feeds: Mapping[str, NDArray[Any]]) -> None:
        """Fill every input."""
        for names, buffer in self._inputs:
            array = next((np.ascontiguousarray(feeds[name]) for name in names if name in feeds), None)
            if array is None:
                raise AgentError(f"no input for {sorted(names)}", self._path.name, "feed every input by its name")
            address = ctypes.c_void_p()
            self._call("LiteRtLockTensorBuffer", buffer, ctypes.byref(address), _WRITE)
            ctypes.memmove(address, array.ctypes.data, array.nbytes)
            self._call("LiteRtUnlockTensorBuffer", buffer)

    def run(self) -> None:
        inputs, outputs = _handles(self._inputs), _handles(self._outputs)
        sizes = ctypes.c_size_t(len(inputs)), ctypes.c_size_t(len(outputs))
        first = ctypes.c_size_t(0)
        self._call("LiteRtRunCompiledModel", self._compiled, first, sizes[0], inputs, sizes[1], outputs)

    def profiled(self, runs: int) -> list[tuple[str, int, int]]:
        """(tag, event type, microseconds) of everything that the profiler saw in some runs."""
        profiler, count = ctypes.c_void_p(), ctypes.c_int()
        self._call("LiteRtCompiledModelGetProfiler", self._compiled, ctypes.byref(profiler))
        self._call("LiteRtStartProfiler", profiler)
        for _ in range(runs):
            self.run()
        self._call("LiteRtStopProfiler", profiler)
        self._call("LiteRtGetNumProfilerEvents", profiler, ctypes.byref(count))
        events = (_Event * count.value)()
        self._call("LiteRtGetProfilerEvents", profiler, count, events)
        return [(event.tag.decode("utf-8", "replace"), event.event_type, event.elapsed_us) for event in events]

    def _add_options(self, identifier: str, content: str) -> None:
        made, call = ctypes.c_void_p(), self._call
        call("LiteRtCreateOpaqueOptions", identifier.encode(), call.copied(content), call.free, ctypes.byref(made))
        call("LiteRtAddOpaqueOptions", self._options, made)

    def _buffers(self, side: str) -> list[tuple[set[str], ctypes.c_void_p]]:
        """One buffer for every input or output, with the names that it is known by."""
        call, ref, count = self._call, ctypes.byref, ctypes.c_size_t()
        call(f"LiteRtGetNumSignature{side}s", self._signature, ref(count))
        found = []
        for number in range(count.value):
            index, known, own = ctypes.c_size_t(number), ctypes.c_char_p(), ctypes.c_char_p()
            tensor, needs, buffer = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_void_p()
            kind = _TensorType()
            call(f"LiteRtGetSignature{side}Name", self._signature, index, ref(known))
            call(f"LiteRtGetSignature{side}TensorByIndex", self._signature, index, ref(tensor))
            call("LiteRtGetTensorName", tensor, ref(own))
            call("LiteRtGetRankedTensorType", tensor, ref(kind))
            needed = f"LiteRtGetCompiledModel{side}BufferRequirements"
            call(needed, self._compiled, ctypes.c_size_t(0), index, ref(needs))
            call("LiteRtCreateManagedTensorBufferFromRequirements", self._environment, ref(kind), needs, ref(buffer))
            found.append(({name.decode() for name in (known.value, own.value) if name}, buffer))
        return found


def _handles(buffers: list[tuple[set[str], ctypes.c_void_p]]) -> Any:
    return (ctypes.c_void_p * len(buffers))(*(buffer for _, buffer in buffers))

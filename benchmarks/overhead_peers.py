"""The barest loops around a runtime, each in a process of its own: what the agent's overhead is held against."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from edgekit.agent.feeds import random_feeds
from edgekit.agent.runtimes.litert import LiteRT
from edgekit.agent.runtimes.onnxruntime import OnnxRuntime
from edgekit.agent.runtimes.table import RuntimeTable
from edgekit.agent.workers import Serve


def loop(call: Callable[[], object], order: Mapping[str, Any]) -> list[float]:
    """The barest timing loop: durations in ms."""
    samples_ns: list[int] = []
    clock, end = time.perf_counter_ns, time.perf_counter_ns() + int(order["duration_s"] * 1e9)
    while len(samples_ns) < order["runs"] or clock() < end:
        before = clock()
        call()
        samples_ns.append(clock() - before)
    return [ns / 1e6 for ns in samples_ns]


def serve_loop(prepare: Callable[[Path, Mapping[str, Any]], Callable[[], object]]) -> Serve:
    """A worker's process that runs `loop` over what `prepare` makes of file and feeds."""

    def serve(
        pipe: Connection,
        case: Mapping[str, Any],
        folder: Path,
        settings: Mapping[str, Any],
        seed: int,
        runtimes: RuntimeTable,
    ) -> None:
        call = prepare(folder / case["artifact"]["path"], random_feeds(case["inputs"], seed))
        for _ in range(settings["warmup_runs"]):
            call()
        pipe.send_bytes(b"{}")
        while (order := json.loads(pipe.recv_bytes()))["runs"] is not None:
            samples_ms = loop(call, order)
            pipe.send_bytes(json.dumps({"samples_ms": samples_ms, "runs": len(samples_ms)}).encode())
        pipe.send_bytes(b"{}")

    return serve


def session_run(path: Path, feeds: Mapping[str, Any]) -> Callable[[], object]:
    """`session.run` with prepared inputs."""
    session = OnnxRuntime(path, 1, {}).__enter__()._session
    return lambda: session.run(None, feeds)


def io_binding(path: Path, feeds: Mapping[str, Any]) -> Callable[[], object]:
    """Inputs and outputs bound once."""
    session = OnnxRuntime(path, 1, {}).__enter__()._session
    binding = session.io_binding()
    for name, array in feeds.items():
        binding.bind_cpu_input(name, array)
    for output in session.get_outputs():
        binding.bind_output(output.name)
    return lambda: session.run_with_iobinding(binding)


def invoke(path: Path, feeds: Mapping[str, Any]) -> Callable[[], object]:
    """`invoke` with inputs set once."""
    runtime = LiteRT(path, 1, {}).__enter__()
    runtime.infer(feeds)
    call: Callable[[], object] = runtime._interpreter.invoke
    return call


def compiled_model(path: Path, feeds: Mapping[str, Any]) -> Callable[[], object]:
    """`CompiledModel.run_by_name`, as litert-benchmark sets it up."""
    from ai_edge_litert.compiled_model import CompiledModel
    from ai_edge_litert.options import CpuOptions, Options

    model = CompiledModel.from_file(str(path), options=Options(cpu_options=CpuOptions(num_threads=1)))
    signature = next(iter(model.get_signature_list()))
    details = model.get_input_tensor_details(signature)
    inputs = {name: model.create_input_buffer_by_name(signature, name) for name in details}
    outputs = {
        name: model.create_output_buffer_by_name(signature, name) for name in model.get_output_tensor_details(signature)
    }
    for name, array in zip(inputs, feeds.values(), strict=True):
        inputs[name].write(array)
    return lambda: model.run_by_name(signature, inputs, outputs)


PEERS: Mapping[str, Mapping[str, Serve]] = {
    "onnx": {"session.run": serve_loop(session_run), "I/O binding": serve_loop(io_binding)},
    "tflite": {"invoke": serve_loop(invoke), "CompiledModel": serve_loop(compiled_model)},
}

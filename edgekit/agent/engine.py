"""The job `build_engine`: a TensorRT engine from an ONNX file, on the board that will run it, with its passport."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any, Mapping

from edgekit.agent import engine_passport as passports
from edgekit.agent.artifacts import checked_path, library_versions
from edgekit.agent.engine_network import configured, parsed
from edgekit.agent.engine_progress import BuildProgress
from edgekit.agent.errors import AgentError
from edgekit.agent.feeds import random_feeds
from edgekit.agent.progress import tell
from edgekit.agent.runtimes import tensorrt_api as api
from edgekit.agent.runtimes.cuda import Cuda
from edgekit.agent.runtimes.tensorrt import TensorRT

_WHERE = "job build_engine"
_SEED = 0


def build_engine(job: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Build an engine, time its layers, and write engine, timing cache, layers and passport.

    Job keys: artifact {path, sha256} (the ONNX file), precision ('fp32', 'fp16' or 'int8'; int8 wants Q/DQ in the
    file), results {engine, timing_cache, layers, passport} (names to write). May be absent: strongly_typed (false; 11
    knows nothing else), sparse_weights (false; the builder tries kernels for 2:4 weights too), profiles [{input: {min,
    opt, max}}] (one per optimisation profile, for dynamic inputs), workspace_bytes, optimisation_level, dla_core,
    gpu_fallback (false), timing_cache_folder (where the board keeps it; absent: it is not kept), device (0),
    layer_runs (20; 0: layers are not timed).

    Returns {passport, seconds, layers, layers_unavailable, timing_cache {reused, path}, progress, not_on_dla,
    libraries}. `progress` says whether TensorRT reported phases; `not_on_dla` names layers that a DLA cannot take.

    Raises:
        AgentError: no TensorRT or GPU here, the file cannot be parsed, or TensorRT refuses to build or run it.
    """
    onnx = checked_path(job, folder)
    trt = api.load_tensorrt()
    log: list[str] = []
    began = time.monotonic()
    tell(stage="reading the network")
    with Cuda(int(job.get("device", 0))) as cuda:
        facts = cuda.facts()
        logger = api.logger(trt, log)
        builder = trt.Builder(logger)
        network, parser = parsed(trt, builder, logger, onnx, job)
        config, not_on_dla = configured(trt, builder, network, job)
        cache_file = _cache_file(job, trt, facts)
        reused = _give_cache(config, cache_file)
        with BuildProgress("building the engine") as progress:
            monitor = api.progress_monitor(trt, progress.start, progress.step, progress.finish)
            if monitor is not None:
                config.progress_monitor = monitor
            built = builder.build_serialized_network(network, config)
        del parser  # not before: it owns weights of the network
        if built is None:
            said = "; ".join(log[-3:]) or "it says nothing more"
            raise AgentError(f"TensorRT {trt.__version__} cannot build the engine: {said}", onnx.name, _advice(log))
        engine = bytes(built)
        cache = bytes(config.get_timing_cache().serialize())
        flags = _flags(trt, config)
    if cache_file is not None:
        _write(cache_file, cache)
    names = job["results"]
    passport = {
        **passports.here(facts, str(trt.__version__)),
        "onnx_sha256": str(job["artifact"]["sha256"]),
        "engine_sha256": hashlib.sha256(engine).hexdigest(),
        "timing_cache_sha256": hashlib.sha256(cache).hexdigest(),
        "precision": job["precision"],
        "strongly_typed": bool(job.get("strongly_typed")) or api.only_strongly_typed(trt),
        "sparse_weights": bool(job.get("sparse_weights")),
        "flags": flags,
        "profiles": job.get("profiles", []),
        "workspace_bytes": job.get("workspace_bytes"),
        "optimisation_level": job.get("optimisation_level"),
        "dla_core": job.get("dla_core"),
        "gpu_fallback": bool(job.get("gpu_fallback")),
    }
    _write(folder / str(names["engine"]), engine)
    _write(folder / str(names["timing_cache"]), cache)
    built_s = time.monotonic() - began
    rows, unavailable = _timed_layers(job, folder / str(names["engine"]), passport)
    _write(folder / str(names["layers"]), json.dumps(rows).encode())
    _write(folder / str(names["passport"]), json.dumps(passport, indent=2, sort_keys=True).encode())
    return {
        "passport": passport,
        "seconds": built_s,
        "layers": rows,
        "layers_unavailable": unavailable,
        "timing_cache": {"reused": reused, "path": str(cache_file) if cache_file else None},
        "progress": "phases"
        if monitor is not None
        else "elapsed time only: Python has no IProgressMonitor before 10.0",
        "not_on_dla": not_on_dla,
        "libraries": library_versions(),
    }


def compare_passport(job: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The job `compare_passport`: whether an engine would be at home here, without the engine.

    Job keys: passport; device (0) may be absent. Returns {here, differences [{field, then, now}]}.

    Raises:
        AgentError: no TensorRT or GPU here.
    """
    trt = api.load_tensorrt()
    with Cuda(int(job.get("device", 0))) as cuda:
        now = passports.here(cuda.facts(), str(trt.__version__))
    return {"here": now, "differences": passports.passport_differences(job["passport"], now)}


def _timed_layers(
    job: Mapping[str, Any], engine: Path, passport: Mapping[str, Any]
) -> tuple[list[dict[str, Any]], str | None]:
    """The layers table, and why there is none."""
    runs = int(job.get("layer_runs", 20))
    if runs <= 0:
        return [], "layer_runs is 0"
    tell(stage="timing the layers")
    options = {"passport": passport, "device": job.get("device", 0), "dla_core": job.get("dla_core")}
    with TensorRT(engine, 1, options) as runtime:
        first = (job.get("profiles") or [{}])[0]
        inputs = [
            {"name": t.name, "dtype": t.dtype, "shape": first[t.name]["opt"] if -1 in t.shape else t.shape}
            for t in runtime.inputs
        ]
        return runtime.layers(random_feeds(inputs, _SEED), runs), None


def _cache_file(job: Mapping[str, Any], trt: Any, facts: Mapping[str, Any]) -> Path | None:
    """One file per TensorRT version and GPU, because a timing fits no other."""
    folder = job.get("timing_cache_folder")
    if not folder:
        return None
    gpu = "".join(letter if letter.isalnum() else "-" for letter in str(facts["gpu"]).lower())
    return Path(os.path.expanduser(str(folder))) / "trt-{}-sm{}-{}.cache".format(trt.__version__, facts["sm"], gpu)


def _give_cache(config: Any, file: Path | None) -> bool:
    """Hand the builder the timings that the board kept; True: it took them. Else it begins an empty cache."""
    content = file.read_bytes() if file is not None and file.is_file() else b""
    if content:
        kept = config.create_timing_cache(content)
        if kept is not None and config.set_timing_cache(kept, False):
            return True
    config.set_timing_cache(config.create_timing_cache(b""), False)
    return False


def _flags(trt: Any, config: Any) -> list[str]:
    return sorted(name for name, flag in trt.BuilderFlag.__members__.items() if config.get_flag(flag))


def _advice(log: list[str]) -> str:
    text = " ".join(log).lower()
    if "out of memory" in text or "insufficient memory" in text or "workspace" in text:
        return "free memory on the GPU, or give the build more of it by workspace_bytes"
    if "int8" in text or "calibrat" in text:
        return "give every quantised layer Q/DQ in the ONNX file; the report's table of rules names what is missing"
    return "look the message up for this TensorRT version; the ONNX file itself was parsed"


def _write(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
        temporary.write_bytes(content)
        os.replace(temporary, path)
    except OSError as err:
        raise AgentError(f"{path} cannot be written: {err}", _WHERE, "check space and rights on the board") from err

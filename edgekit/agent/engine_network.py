"""An ONNX file as TensorRT's network, and the builder's settings for it. Wrong wishes are refused before the build."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Iterator, Mapping

from edgekit.agent.errors import AgentError
from edgekit.agent.runtimes import tensorrt_api as api

_WHERE = "job build_engine"
_PRECISIONS = ("fp32", "fp16", "int8")


def parsed(trt: Any, builder: Any, logger: Any, onnx: Path, job: Mapping[str, Any]) -> tuple[Any, Any]:
    """The network in the file, once the precision asked for can come out of it, and its parser.

    The parser owns weights of the network and must be kept until the engine is built.

    Raises:
        AgentError: the parser's own words with the node that it stopped at; a precision that the file cannot give.
    """
    precision = str(job["precision"])
    if precision not in _PRECISIONS:
        raise AgentError(
            f"no precision is called {precision!r}", _WHERE, "precisions: {}".format(", ".join(_PRECISIONS))
        )
    strongly = bool(job.get("strongly_typed")) or api.only_strongly_typed(trt)
    network = builder.create_network(api.network_flags(trt, strongly))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(onnx)):
        errors = [parser.get_error(index) for index in range(parser.num_errors)]
        said = "; ".join(f"node {error.node()}: {error.desc()}" for error in errors[:3])
        raise AgentError(
            f"TensorRT {trt.__version__} cannot parse the network: {said or 'it does not say why'}",
            onnx.name,
            "export with a lower `export.opset`, or replace the operator that is named",
        )
    _check_precision(trt, network, onnx, precision, strongly)
    return network, parser


def _layers(network: Any) -> Iterator[Any]:
    return (network.get_layer(index) for index in range(network.num_layers))


def _check_precision(trt: Any, network: Any, onnx: Path, precision: str, strongly: bool) -> None:
    quantised = any(layer.type == trt.LayerType.QUANTIZE for layer in _layers(network))
    if precision == "int8" and not quantised:
        raise AgentError(
            "an int8 engine is asked for, and the network has no Q/DQ",
            onnx.name,
            "export it quantised under the tensorrt convention; edgekit does not use TensorRT's own calibrators",
        )
    if precision != "int8" and quantised:
        raise AgentError(f"an {precision} engine is asked for, and the network has Q/DQ", onnx.name, "ask for int8")
    if strongly and precision == "fp16" and not _has_type(network, trt.DataType.HALF):
        raise AgentError(
            "an fp16 engine is asked for with strong types, and the network computes nothing in float16",
            onnx.name,
            "give a float16 ONNX file, or build with TensorRT 8 to 10 without strongly_typed",
        )


def _has_type(network: Any, dtype: Any) -> bool:
    return any(
        layer.get_output(index).dtype == dtype for layer in _layers(network) for index in range(layer.num_outputs)
    )


def configured(trt: Any, builder: Any, network: Any, job: Mapping[str, Any]) -> tuple[Any, list[str]]:
    """The builder's settings for a job, and the names of the layers that its DLA cannot take.

    float32 is float32: TF32, which TensorRT allows by default, is switched off for 'fp32' alone.

    Raises:
        AgentError: the job asks for what this version or board has not.
    """
    precision = str(job["precision"])
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # or the inspector tells names alone
    if not (job.get("strongly_typed") or api.only_strongly_typed(trt)):
        for flag in api.precision_flags(precision):
            config.set_flag(getattr(trt.BuilderFlag, flag))
    if precision == "fp32":
        config.clear_flag(trt.BuilderFlag.TF32)
    if job.get("sparse_weights"):
        config.set_flag(trt.BuilderFlag.SPARSE_WEIGHTS)
    if job.get("workspace_bytes") is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, int(job["workspace_bytes"]))
    if job.get("optimisation_level") is not None:
        if not hasattr(config, "builder_optimization_level"):
            raise AgentError(
                f"TensorRT {trt.__version__} has no optimisation levels", _WHERE, "leave optimisation_level out"
            )
        config.builder_optimization_level = int(job["optimisation_level"])
    _add_profiles(builder, network, config, job)
    return config, _use_dla(trt, builder, network, config, job)


def _add_profiles(builder: Any, network: Any, config: Any, job: Mapping[str, Any]) -> None:
    inputs = [network.get_input(index) for index in range(network.num_inputs)]
    dynamic = {tensor.name: list(tensor.shape) for tensor in inputs if -1 in tuple(tensor.shape)}
    profiles = job.get("profiles") or []
    if dynamic and not profiles:
        raise AgentError(
            "inputs of dynamic shape: {}".format(", ".join(f"{name} {shape}" for name, shape in dynamic.items())),
            f"{_WHERE}, profiles",
            "give the least, the usual and the greatest shape of each",
        )
    for number, shapes in enumerate(profiles):
        if set(shapes) != set(dynamic):
            raise AgentError(
                f"profile {number} names {sorted(shapes)}, inputs of dynamic shape are {sorted(dynamic)}",
                f"{_WHERE}, profiles",
                "name each of them, and no other",
            )
        profile = builder.create_optimization_profile()
        for name, row in shapes.items():
            profile.set_shape(name, tuple(row["min"]), tuple(row["opt"]), tuple(row["max"]))
        if config.add_optimization_profile(profile) < 0:
            raise AgentError(
                f"TensorRT refuses profile {number}: {dict(shapes)}",
                f"{_WHERE}, profiles",
                "min, opt and max must fit the input and not fall from one to the next",
            )


def _use_dla(trt: Any, builder: Any, network: Any, config: Any, job: Mapping[str, Any]) -> list[str]:
    core = job.get("dla_core")
    if core is None:
        return []
    if job["precision"] == "fp32":
        raise AgentError("a DLA computes in int8 or fp16, not in fp32", f"{_WHERE}, precision", "ask for fp16 or int8")
    if not 0 <= int(core) < builder.num_DLA_cores:
        raise AgentError(
            f"there is no DLA core {core}: this board has {builder.num_DLA_cores}",
            f"{_WHERE}, dla_core",
            "leave dla_core out, and the GPU runs the network",
        )
    config.default_device_type = trt.DeviceType.DLA
    config.DLA_core = int(core)
    refused = [layer.name for layer in _layers(network) if not config.can_run_on_DLA(layer)]
    if job.get("gpu_fallback"):
        config.set_flag(trt.BuilderFlag.GPU_FALLBACK)
    elif refused:
        raise AgentError(
            "the DLA cannot run {} of the layers: {}".format(len(refused), ", ".join(refused[:5])),
            f"{_WHERE}, dla_core",
            "set gpu_fallback to run these on the GPU",
        )
    return refused

import platform

import pytest

from edgekit.errors import SchemaError
from edgekit.pipeline.choose import choose_variants, stand_in_for
from edgekit.schema.device import Device
from edgekit.schema.load import load_target
from edgekit.schema.recipe import Export

JETSON = load_target("jetson").target
X86 = load_target("cpu-x86-64").target


def named(variants):
    return [(v.format, v.stem, v.precision, v.ships) for v in variants]


def test_every_format_of_the_target_in_its_order_and_tensorrt_never_takes_the_plain_name():
    assert named(choose_variants(JETSON, Export(), quantised=True)) == [
        ("tensorrt", "model.tensorrt", "int8", True),
        ("onnx", "model", "int8", True),
        ("tflite", "model", "int8", True),
    ]


def test_a_second_convention_of_a_format_has_it_in_its_name():
    rows = (X86.formats[0], X86.formats[0].model_copy(update={"convention": "onnxruntime-x86"}))
    target = X86.model_copy(update={"formats": rows})
    assert [v.stem for v in choose_variants(target, Export(), quantised=True)] == ["model", "model.onnxruntime-x86"]


def test_float_versions_to_compare_with_are_not_shipped_and_there_is_none_of_a_stand_in():
    variants = choose_variants(JETSON, Export(), quantised=True, compare=True)
    assert named(variants)[3:] == [
        ("onnx", "model.float", "fp32", False),
        ("tflite", "model.float", "fp32", False),
        ("onnx", "model.half", "fp16", False),
        ("tflite", "model.half", "fp16", False),
    ]


def test_halves_are_compared_with_only_where_the_target_computes_in_them_and_for_what_computes_in_integers():
    assert "model.half" not in {v.stem for v in choose_variants(X86, Export(), quantised=True, compare=True)}
    stored = choose_variants(JETSON, Export(), quantised=True, precision="int8-weights", compare=True)
    assert {v.precision for v in stored if not v.ships} == {"fp32"}


def test_a_float_model_is_exported_in_float_and_compared_with_nothing():
    assert named(choose_variants(X86, Export(formats=("onnx",)), quantised=False, compare=True)) == [
        ("onnx", "model", "fp32", True)
    ]


def test_a_runtime_without_int8_on_the_target_gets_the_float_network_and_says_why():
    trt, onnx = choose_variants(load_target("jetson-nano").target, Export(), quantised=True, compare=True)[:2]
    assert (trt.format, trt.precision, onnx.format, onnx.precision) == ("tensorrt", "fp32", "onnx", "int8")
    assert trt.not_int8 == "trtexec on jetson-nano runs fp32, fp16: exported in fp32"
    assert onnx.not_int8 == ""
    assert choose_variants(load_target("jetson-nano").target, Export(), quantised=False)[0].not_int8 == ""


def test_a_float_artifact_has_no_float_version_to_compare_with():
    row = X86.formats[0].model_copy(update={"precisions": ("fp32",)})
    target = X86.model_copy(update={"formats": (row, X86.formats[1])})
    assert named(choose_variants(target, Export(), quantised=True, compare=True)) == [
        ("onnx", "model", "fp32", True),
        ("tflite", "model", "int8", True),
        ("tflite", "model.float", "fp32", False),
    ]


def test_a_format_that_the_target_does_not_run_is_refused():
    with pytest.raises(SchemaError) as caught:
        choose_variants(X86, Export(formats=("tensorrt",)), quantised=True)
    assert caught.value.where == "recipe: export.formats"
    assert "onnx, tflite" in caught.value.fix


def test_a_device_stands_in_for_every_target_but_its_own(monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    assert stand_in_for(Device(name="bench", target="cpu-x86-64"), X86) is None
    assert stand_in_for(Device(name="bench", target="x86"), X86) is None
    assert stand_in_for(Device(name="bench", target="cpu-x86-64"), JETSON) == "jetson-orin-nano"
    said = Device(name="bench", target="cpu-x86-64", stand_in_for="cpu-x86-64")
    assert stand_in_for(said, X86) == "cpu-x86-64"
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert stand_in_for(Device(name="bench", target="cpu-x86-64"), X86) == "cpu-x86-64"


def test_weights_of_fewer_bits_run_wherever_float32_runs():
    chosen = choose_variants(X86, Export(), quantised=True, precision="int4-weights", compare=True)
    assert named(chosen) == [
        ("onnx", "model", "int4-weights", True),
        ("tflite", "model", "int4-weights", True),
        ("onnx", "model.float", "fp32", False),
        ("tflite", "model.float", "fp32", False),
    ]
    assert all(v.not_int8 == "" for v in chosen)


@pytest.mark.parametrize(
    ("target", "precision", "reasons"),
    [
        ("cpu-x86-64", "fp16", ["onnxruntime on cpu-x86-64 runs fp32, int8", "litert on cpu-x86-64 runs fp32, int8"]),
        ("cpu-arm64", "fp16", ["", ""]),
        ("cpu-x86-64", "minifloat-weights", ["", "TFLite has no minifloat weights"]),
        ("cpu-x86-64", "int8-dynamic", ["", ""]),
    ],
)
def test_a_format_without_such_numbers_gets_float32_and_says_why(target: str, precision: str, reasons: list[str]):
    chosen = choose_variants(load_target(target).target, Export(), quantised=True, precision=precision)
    assert [v.not_int8.removesuffix(": exported in fp32") for v in chosen] == reasons
    assert [v.precision for v in chosen] == ["fp32" if reason else precision for reason in reasons]


def test_tensorrt_gets_integers_or_float32():
    def reason(precision: str) -> str:
        return choose_variants(JETSON, Export(), quantised=True, precision=precision)[0].not_int8

    assert reason("int8") == ""
    assert reason("fp16") == "TensorRT builds an engine with fp16 from float32: exported in fp32"
    assert reason("int4-weights") == "TensorRT files with int4-weights are not written: exported in fp32"


def test_a_board_stands_in_where_what_it_says_of_itself_does_not_fit_its_target():
    pi = Device(name="pi", target="raspberry-pi-5", transport="ssh", address="pi")
    target = load_target("raspberry-pi-5").target
    assert stand_in_for(pi, target, "aarch64") is None
    assert stand_in_for(pi, target, "x86_64") == "raspberry-pi-5"
    assert stand_in_for(pi, target, "aarch64", "aarch64 on x86, by /proc/cpuinfo") == "raspberry-pi-5"

import pytest
from pydantic import ValidationError

from edgekit.schema.passes import QuantizeOptions
from edgekit.schema.scheme import precision_of


@pytest.mark.parametrize(
    ("weights", "activations", "group", "precision"),
    [
        ("int8", "int8", None, "int8"),
        ("int4", "int16", None, "int8"),
        ("int4", "float", 32, "int4-weights"),
        ("int8", "float", None, "int8-weights"),
        ("int8", "dynamic", None, "int8-dynamic"),
        ("int4", "dynamic", 64, "int4-dynamic"),
        ("fp16", "fp16", None, "fp16"),
        ("fp16", "float", None, "fp16-weights"),
        ("bf16", "float", None, "bf16-weights"),
        ("fp8_e5m2", "float", None, "fp8-weights"),
        ("e3m2", "float", None, "minifloat-weights"),
    ],
)
def test_schemes_that_exist(weights: str, activations: str, group: int | None, precision: str) -> None:
    options = QuantizeOptions(weights=weights, activations=activations, group_size=group)
    assert precision_of(options.weights, options.activations) == precision


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"weights": "int5", "activations": "float"}, "no scheme has weights int5"),
        ({"weights": "fp16", "activations": "int8"}, "no scheme"),
        ({"weights": "int8", "activations": "fp16"}, "no scheme"),
        ({"weights": "int8", "activations": "e4m3"}, "no scheme"),
        ({"weights": "e4m3", "activations": "dynamic"}, "no scheme"),
        ({"weights": "fp16", "activations": "float", "rounding": "gptq"}, "fp16 is rounded to nearest"),
        ({"weights": "fp8_e4m3fn", "activations": "float", "rounding": "adaround"}, "is rounded to nearest"),
        ({"weights": "e5m3", "activations": "float"}, "e5m3 has 9 bits"),
        ({"weights": "e4m3", "activations": "e1m0"}, "e1m0 has 2 bits"),
        ({"weights": "int4", "activations": "float", "group_size": 24}, "power of two"),
        ({"weights": "int4", "activations": "float", "group_size": 8}, "power of two"),
        ({"weights": "int8", "group_size": 32}, "group_size is for"),
        ({"weights": "fp16", "activations": "float", "group_size": 32}, "group_size is for"),
        ({"weights": "e4m3", "activations": "e4m3", "observer": "entropy"}, "entropy"),
    ],
)
def test_schemes_that_do_not(options: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        QuantizeOptions(**options)  # type: ignore[arg-type]

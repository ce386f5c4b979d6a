import pytest

from edgekit.debug.kinds import kind_named


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (("conv2d", "Conv", "CONV_2D", "DEPTHWISE_CONV_2D", "conv"), "conv"),
        (("linear", "Gemm", "FULLY_CONNECTED"), "linear"),
        (("mean", "average_pool", "GlobalAveragePool", "AVERAGE_POOL_2D", "ReduceMean", "MEAN"), "averagepool"),
        (("max_pool2d", "MaxPool", "MAX_POOL_2D"), "maxpool"),
        (("sigmoid", "Sigmoid", "LOGISTIC"), "sigmoid"),
        (("hardswish", "HardSwish", "HARD_SWISH"), "hardswish"),
        (("softmax", "Softmax", "SOFTMAX"), "softmax"),
        (("reshape", "Reshape", "Transpose", "PAD", "STRIDED_SLICE", "getitem", "QUANTIZE"), "move"),
    ],
)
def test_one_word_for_every_format(names, kind):
    assert {kind_named(name) for name in names} == {kind}


def test_arithmetic_with_a_constant_is_another_kind_than_between_two_activations():
    assert kind_named("ADD") == kind_named("add") == "add"
    assert kind_named("Add", operands=1) == "add constant"
    assert kind_named("Conv", operands=1) == "conv"

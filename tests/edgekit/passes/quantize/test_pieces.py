"""Where a program is cut: residual blocks are whole, chains are cut at every kernel."""

from edgekit.nets.program import trace
from edgekit.passes.quantize.pieces import cut, fused_behind
from tests import nets


def test_a_residual_block_is_one_piece_that_reads_one_activation() -> None:
    program = trace(nets.model(nets.TINY_RESIDUAL), 2)
    pieces = cut(program)
    (block,) = [piece for piece in pieces if len(piece.layers) > 1]
    assert list(block.layers) == ["conv1/conv2d", "conv2/conv2d"]
    assert block.narrow
    assert len(block.inputs) == 1
    assert [name for piece in pieces for name in piece.layers] == [
        "stem/conv2d",
        "conv1/conv2d",
        "conv2/conv2d",
        "linear/linear",
    ]


def test_every_operator_is_in_one_piece_in_order() -> None:
    for counted in nets.COUNTED:
        program = trace(nets.model(counted), 2)
        nodes = [node for piece in cut(program) for node in piece.nodes]
        assert nodes == [n for n in program.module.graph.nodes if n.op in ("placeholder", "call_function")]


def test_a_depthwise_convolution_stays_with_the_layer_behind_it() -> None:
    pieces = [list(piece.layers) for piece in cut(trace(nets.model(nets.TINY_CONV), 2)) if piece.layers]
    assert pieces == [["conv/conv2d"], ["depthwise/conv2d", "pointwise/conv2d"], ["linear/linear"]]


def test_the_activation_that_a_kernel_applies_is_found() -> None:
    program = trace(nets.model(nets.TINY_CONV), 2)
    behind = fused_behind(program, "conv/conv2d")
    assert behind is not None
    assert program.names[behind] == "/relu"
    assert fused_behind(program, "linear/linear") is None

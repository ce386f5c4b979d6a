"""The operators that an exported program may call: a closed list, for there are ATen operators that open files."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

# Names without overload. A name with `_` behind it is the same in place, on a value that the program itself made.
_NAMES = frozenset(
    """
    conv1d conv2d conv3d conv_transpose1d conv_transpose2d convolution
    linear addmm addmv addbmm bmm baddbmm matmul mm mv dot einsum
    batch_norm _native_batch_norm_legit_no_training layer_norm native_layer_norm group_norm native_group_norm
    instance_norm rms_norm _fused_rms_norm
    relu relu6 leaky_relu elu selu celu gelu silu mish hardtanh hardswish hardsigmoid sigmoid tanh softplus
    prelu log_sigmoid log_sigmoid_forward glu threshold hardshrink softshrink
    softmax log_softmax _softmax _log_softmax
    add sub rsub mul div true_divide floor_divide remainder fmod neg abs sign sgn exp exp2 expm1 log log2 log10 log1p
    sqrt rsqrt square pow reciprocal sin cos tan asin acos atan atan2 sinh cosh erf erfc floor ceil round trunc frac
    clamp clamp_min clamp_max clip minimum maximum addcmul addcdiv lerp nan_to_num
    __and__ __or__ __xor__ logical_and logical_or logical_not logical_xor bitwise_and bitwise_or bitwise_not bitwise_xor
    eq ne lt le gt ge where masked_fill isnan isinf isfinite
    sum mean prod amax amin max min argmax argmin var std var_mean any all cumsum cumprod norm linalg_vector_norm
    logsumexp diff topk sort argsort count_nonzero
    max_pool1d max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d
    adaptive_max_pool1d adaptive_max_pool2d max_pool1d_with_indices max_pool2d_with_indices
    view reshape _unsafe_view view_as reshape_as flatten unflatten squeeze unsqueeze permute transpose t swapaxes
    swapdims movedim moveaxis numpy_T expand expand_as repeat repeat_interleave tile contiguous clone alias detach
    lift_fresh lift_fresh_copy to _to_copy type_as narrow slice select index index_select gather scatter scatter_add
    index_put cat concat stack hstack vstack split split_with_sizes chunk unbind roll flip pad constant_pad_nd
    reflection_pad1d reflection_pad2d replication_pad1d replication_pad2d pixel_shuffle pixel_unshuffle
    channel_shuffle upsample_nearest1d upsample_nearest2d upsample_linear1d upsample_bilinear2d upsample_bicubic2d
    grid_sampler grid_sampler_2d im2col col2im unfold tril triu diagonal diag diag_embed meshgrid
    embedding one_hot scaled_dot_product_attention
    full zeros ones full_like zeros_like ones_like new_zeros new_ones new_full arange linspace eye scalar_tensor fill
    zero copy dropout feature_dropout alpha_dropout sym_size sym_numel sym_stride
    """.split()  # noqa: SIM905 a list of words is read as one
)

# Their kernels read as far as the sizes say without looking, so these are called behind a check. By gates of a cell.
_RECURRENT = {"torch.ops.aten.lstm.input": 4, "torch.ops.aten.gru.input": 3}

_TARGET = re.compile(r"torch\.ops\.aten\.([A-Za-z_0-9]+)\.([A-Za-z_0-9]+)")
_OF_SIZES: Mapping[str, Callable[..., Any]] = {
    f"_operator.{name}": getattr(operator, name) for name in ("add", "sub", "mul", "floordiv", "mod", "neg", "getitem")
}


def find_operator(target: str) -> Callable[..., Any] | None:
    """What a node of the graph calls, or None for what is not on the list."""
    if target in _OF_SIZES:
        return _OF_SIZES[target]
    if target in _RECURRENT:
        return _lstm if _RECURRENT[target] == 4 else _gru
    match = _TARGET.fullmatch(target)
    if match is None or not {match[1], match[1].removesuffix("_")} & _NAMES:
        return None
    packet = getattr(torch.ops.aten, match[1], None)
    found = getattr(packet, match[2], None)
    return found if isinstance(found, torch._ops.OpOverload) else None


def changes_its_argument(function: Callable[..., Any]) -> bool:
    """Whether an operator works in place, so that it counts even where nobody reads what it gives."""
    return isinstance(function, torch._ops.OpOverload) and bool(function._schema.is_mutable)


def _lstm(x: Tensor, states: Sequence[Tensor], weights: Sequence[Tensor], *options: Any) -> tuple[Tensor, ...]:
    _check_recurrent(x, states, weights, options, gates=4)
    return torch.ops.aten.lstm.input(x, states, weights, *options)  # type: ignore[no-any-return]


def _gru(x: Tensor, state: Tensor, weights: Sequence[Tensor], *options: Any) -> tuple[Tensor, ...]:
    _check_recurrent(x, (state,), weights, options, gates=3)
    return torch.ops.aten.gru.input(x, state, weights, *options)  # type: ignore[no-any-return]


def _check_recurrent(
    x: Tensor, states: Sequence[Tensor], weights: Sequence[Tensor], options: Sequence[Any], gates: int
) -> None:
    """Refuse sizes that do not belong together.

    Raises:
        ValueError: naming the first.
    """
    biases, layers, _, _, both_ways, batch_first = options
    directions, width = 2 if both_ways else 1, states[0].shape[-1]
    wanted: list[tuple[str, Tensor, tuple[int, ...]]] = [
        ("a state", state, (layers * directions, x.shape[0 if batch_first else 1], width)) for state in states
    ]
    shapes: list[tuple[int, ...]] = []
    for layer in range(layers):
        taken = x.shape[2] if layer == 0 else width * directions
        one = [(gates * width, taken), (gates * width, width), *([(gates * width,)] * 2 if biases else [])]
        shapes += one * directions
    if x.dim() != 3 or len(weights) != len(shapes):
        raise ValueError(f"a recurrent layer has {len(weights)} weights for {x.dim()} dimensions")
    wanted += [("a weight", weight, shape) for weight, shape in zip(weights, shapes, strict=True)]
    for kind, tensor, shape in wanted:
        if tuple(tensor.shape) != shape:
            raise ValueError(f"{kind} of a recurrent layer is {tuple(tensor.shape)} instead of {shape}")

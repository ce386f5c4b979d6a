"""Every ONNX operator that is taken, and the row that makes it layers. `docs/onnx-in.md` shows it to users.

An operator whose inputs are all known before the network runs needs no row: onnx's own definition computes it.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from edgekit.nets.from_onnx import (
    activations,
    elementwise,
    gathers,
    layers,
    movement,
    pools,
    recurrent,
    reductions,
    resize,
)
from edgekit.nets.from_onnx.activations import softmax
from edgekit.nets.from_onnx.elementwise import binary, folded, passed, unary
from edgekit.nets.from_onnx.graph import Operator
from edgekit.nets.from_onnx.reductions import reduce

Row = Callable[[Operator], Any]

OPERATORS: Mapping[str, Row] = {
    # weights
    "Conv": layers.conv,
    "ConvTranspose": layers.conv_transpose,
    "Gemm": layers.gemm,
    "MatMul": layers.matmul,
    "Einsum": layers.einsum,
    "LSTM": recurrent.lstm,
    "GRU": recurrent.gru,
    "RNN": recurrent.rnn,
    # norms
    "BatchNormalization": layers.batch_norm,
    "LayerNormalization": layers.layer_norm,
    "RMSNormalization": layers.rms_norm,
    "InstanceNormalization": layers.instance_norm,
    "GroupNormalization": layers.group_norm,
    "LRN": layers.local_norm,
    "LpNormalization": layers.lp_norm,
    "MeanVarianceNormalization": layers.mean_variance_norm,
    # pools
    "MaxPool": pools.max_pool,
    "AveragePool": pools.average_pool,
    "LpPool": pools.lp_pool,
    "GlobalAveragePool": pools.global_average,
    "GlobalMaxPool": pools.global_max,
    # activations
    "Relu": unary(nn.ReLU),
    "LeakyRelu": activations.leaky,
    "PRelu": activations.prelu,
    "ThresholdedRelu": activations.thresholded,
    "Clip": activations.clip,
    "Elu": activations.elu,
    "Celu": activations.celu,
    "Selu": activations.selu,
    "Gelu": activations.gelu,
    "Sigmoid": unary(nn.Sigmoid),
    "HardSigmoid": activations.hard_sigmoid,
    "HardSwish": unary(activations.hard_swish),
    "Swish": activations.swish,
    "Mish": unary(nn.Mish),
    "Tanh": unary(nn.Tanh),
    "Softplus": unary(nn.Softplus),
    "Softsign": unary(nn.Softsign),
    "Softmax": softmax(torch.softmax),
    "LogSoftmax": softmax(torch.log_softmax),
    # arithmetic
    "Add": binary(operator.add),
    "Sub": binary(operator.sub),
    "Mul": binary(operator.mul),
    "Div": binary(elementwise.divide),
    "Pow": binary(elementwise.power),
    "Mod": elementwise.modulo,
    "Min": folded(elementwise.smaller),
    "Max": folded(elementwise.larger),
    "Sum": folded(operator.add),
    "Mean": folded(operator.add, mean=True),
    "Abs": unary(torch.abs),
    "Neg": unary(torch.neg),
    "Sign": unary(torch.sign),
    "Reciprocal": unary(torch.reciprocal),
    "Sqrt": unary(torch.sqrt),
    "Exp": unary(torch.exp),
    "Log": unary(torch.log),
    "Sin": unary(torch.sin),
    "Cos": unary(torch.cos),
    "Tan": unary(torch.tan),
    "Asin": unary(torch.asin),
    "Acos": unary(torch.acos),
    "Atan": unary(torch.atan),
    "Sinh": unary(torch.sinh),
    "Cosh": unary(torch.cosh),
    "Asinh": unary(torch.asinh),
    "Acosh": unary(torch.acosh),
    "Atanh": unary(torch.atanh),
    "Erf": unary(torch.erf),
    "Floor": unary(torch.floor),
    "Ceil": unary(torch.ceil),
    "Round": unary(torch.round),
    "CumSum": reductions.cumulated,
    # sums over axes
    "ReduceMean": reduce(reductions.mean),
    "ReduceSum": reduce(reductions.total),
    "ReduceMax": reduce(reductions.largest),
    "ReduceMin": reduce(reductions.smallest),
    "ReduceProd": reduce(reductions.product),
    "ReduceL1": reduce(reductions.norm1),
    "ReduceL2": reduce(reductions.norm2),
    "ReduceSumSquare": reduce(reductions.sum_square),
    "ReduceLogSum": reduce(reductions.log_sum),
    "ReduceLogSumExp": reduce(reductions.log_sum_exp),
    "ArgMax": reductions.arg(torch.argmax),
    "ArgMin": reductions.arg(torch.argmin),
    "TopK": gathers.top_k,
    # comparisons
    "Equal": binary(operator.eq),
    "Greater": binary(operator.gt),
    "GreaterOrEqual": binary(operator.ge),
    "Less": binary(operator.lt),
    "LessOrEqual": binary(operator.le),
    "And": binary(torch.logical_and),
    "Or": binary(torch.logical_or),
    "Xor": binary(torch.logical_xor),
    "Not": unary(torch.logical_not),
    "IsNaN": unary(torch.isnan),
    "Where": elementwise.where,
    # types
    "Cast": elementwise.cast,
    "CastLike": elementwise.cast_like,
    "Identity": passed,
    "Dropout": passed,
    # movement
    "Reshape": movement.reshape,
    "Flatten": movement.flatten,
    "Transpose": movement.transpose,
    "Squeeze": movement.squeeze,
    "Unsqueeze": movement.unsqueeze,
    "Concat": movement.concat,
    "Split": movement.split,
    "Slice": movement.slices,
    "Gather": gathers.gather,
    "GatherElements": gathers.gather_elements,
    "GatherND": gathers.gather_nd,
    "Expand": movement.expand,
    "Tile": movement.tile,
    "Pad": movement.pad,
    "DepthToSpace": movement.depth_to_space,
    "SpaceToDepth": movement.space_to_depth,
    "Resize": resize.resize,
    "Upsample": resize.resize,
    "GridSample": resize.grid_sample,
    "OneHot": gathers.one_hot,
    "Trilu": gathers.trilu,
    # shapes: known before the network runs, but for the batch
    "Shape": movement.shape,
    "Size": movement.size,
    "ConstantOfShape": movement.constant_of_shape,
}

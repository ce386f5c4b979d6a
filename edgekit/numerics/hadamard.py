"""Orthogonal matrices of entries +-1 / sqrt(n): a rotation by one spreads an outlier evenly over all channels."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from edgekit.errors import ShapeError

# order of a matrix that is no product of smaller ones -> the prime q of its construction by Paley
_PALEY_I = {q + 1: q for q in (11, 19, 43, 59)}  # q = 3 modulo 4, order q + 1
_PALEY_II = {2 * (q + 1): q for q in (13, 17)}  # q = 1 modulo 4, order 2 (q + 1)


def hadamard(order: int) -> Tensor:
    """H of entries +-1 / sqrt(order) with H H^T = 1; float64, (order, order). Its first column is constant.

    Orders are 2^k, and 12, 20, 28, 36, 44, 60 times 2^k.

    Raises:
        ShapeError: no matrix of this order is known here.

    Source: Sylvester's doubling, and Paley, On orthogonal matrices, 1933, for the orders that are no power of two.
    """
    base, doublings = order, 0
    while base > 0 and base % 2 == 0 and base not in _PALEY_I and base not in _PALEY_II:
        base, doublings = base // 2, doublings + 1
    if not (base == 1 or base in _PALEY_I or base in _PALEY_II):
        raise ShapeError(
            f"no Hadamard matrix of order {order}",
            "rotation of channels",
            "orders are 2^k, and 12, 20, 28, 36, 44, 60 times 2^k",
        )
    signs = torch.ones(1, 1, dtype=torch.float64)
    if base in _PALEY_I:
        signs = _paley_i(_PALEY_I[base])
    elif base in _PALEY_II:
        signs = _paley_ii(_PALEY_II[base])
    signs = signs * signs[:, :1]  # a row may change its sign: the first column becomes ones
    for _ in range(doublings):
        signs = torch.kron(torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64), signs)
    return signs / math.sqrt(order)


def random_rotation(order: int, generator: torch.Generator) -> Tensor:
    """H diag(+-1) with random signs: orthogonal, (order, order) float64.

    Raises:
        ShapeError: as `hadamard`.

    Source: Ashkboos et al., QuaRot, arXiv:2404.00456, section 2.
    """
    return hadamard(order) * _signs(order, generator)


def mean_keeping_rotation(order: int, generator: torch.Generator) -> Tensor:
    """An orthogonal R with R 1 = 1, so that R x has the mean of x: (order, order) float64.

    R = H diag(1, +-1, ..) H^T. H's first column is constant, and its sign is kept. A layer norm takes the mean off, and
    commutes with R; a plain Hadamard rotation would move the mean elsewhere. QuaRot turns the norm into an RMS norm
    instead, which changes the network's layers.

    Raises:
        ShapeError: as `hadamard`.
    """
    matrix, signs = hadamard(order), _signs(order, generator)
    signs[0] = 1.0
    return (matrix * signs) @ matrix.T


def _signs(order: int, generator: torch.Generator) -> Tensor:
    return torch.randint(0, 2, (order,), generator=generator, dtype=torch.float64) * 2 - 1


def _jacobsthal(q: int) -> Tensor:
    """Q[i, j] = 1 where i - j is a square modulo the prime q, -1 where it is none, 0 on the diagonal."""
    squares = {i * i % q for i in range(1, q)}
    character = torch.tensor([0.0, *(1.0 if i in squares else -1.0 for i in range(1, q))], dtype=torch.float64)
    steps = (torch.arange(q)[:, None] - torch.arange(q)[None, :]) % q
    return character[steps]


def _paley_i(q: int) -> Tensor:
    core = torch.zeros(q + 1, q + 1, dtype=torch.float64)
    core[0, 1:], core[1:, 0], core[1:, 1:] = 1.0, -1.0, _jacobsthal(q)
    return core + torch.eye(q + 1, dtype=torch.float64)


def _paley_ii(q: int) -> Tensor:
    core = torch.zeros(q + 1, q + 1, dtype=torch.float64)
    core[0, 1:], core[1:, 0], core[1:, 1:] = 1.0, 1.0, _jacobsthal(q)
    one = torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64)
    diagonal = torch.tensor([[1.0, -1.0], [-1.0, -1.0]], dtype=torch.float64)
    return torch.kron(core, one) + torch.kron(torch.eye(q + 1, dtype=torch.float64), diagonal)

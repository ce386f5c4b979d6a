"""A network of two hidden layers that answers one number."""

from torch import nn


def make_network(hidden: int = 32) -> nn.Module:
    """(N, 10) -> (N, 1)."""
    return nn.Sequential(
        nn.Linear(10, hidden), nn.ReLU(), nn.Linear(hidden, hidden // 2), nn.ReLU(), nn.Linear(hidden // 2, 1)
    )

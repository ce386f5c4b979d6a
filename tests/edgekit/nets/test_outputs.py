import torch

from edgekit.nets.outputs import tensors_of


def test_tensors_are_in_the_order_in_which_a_network_returns_them():
    a, b, c = torch.zeros(1), torch.ones(1), torch.full((1,), 2.0)
    assert tensors_of(a) == [a]
    assert [t.item() for t in tensors_of({"second": b, "rest": (c, [a])})] == [1, 2, 0]

import torch

from edgekit.nets.autoencoder import autoencoder


def test_it_goes_through_the_bottleneck_and_back_to_the_shape():
    network = autoencoder((2, 3, 4), [10, 5])
    x = torch.randn(7, 2, 3, 4, generator=torch.Generator().manual_seed(0))
    code = network.encode(x)
    assert code.shape == (7, 5)
    assert network(x).shape == x.shape
    assert torch.equal(network(x), network.decode(code).reshape(x.shape))
    assert (network(x) < 0).any()  # nothing rectifies what is rebuilt
    # 24 -> 10 -> 5 -> 10 -> 24
    assert sum(p.numel() for p in network.parameters()) == 24 * 10 + 10 + 10 * 5 + 5 + 5 * 10 + 10 + 10 * 24 + 24

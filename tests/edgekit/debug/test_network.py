import numpy as np
import torch

from edgekit.debug.layers import INPUT
from edgekit.debug.network import NetworkSide


def test_layers_take_their_activation_in_and_are_named_by_their_operator(colour_network):
    assert [
        (layer.name, layer.tensor, layer.kind, layer.sources, layer.activated) for layer in colour_network.layers
    ] == [
        ("input:image", "image", INPUT, (), False),
        ("stem/conv2d", "relu", "conv", ("input:image",), True),
        ("body/conv2d", "conv2d_1", "conv", ("stem/conv2d",), False),
        ("/add", "relu_1", "add", ("stem/conv2d", "body/conv2d"), True),
        ("/adaptive_avg_pool2d", "adaptive_avg_pool2d_default", "averagepool", ("/add",), False),
        ("linear/linear", "linear", "linear", ("/adaptive_avg_pool2d",), False),
    ]
    assert colour_network.layers[0].shape == (8, 3, 8, 8)


def test_weights_are_the_networks_own_and_have_no_step(colour_network, colour_model):
    stem = colour_network.layers[1]
    np.testing.assert_array_equal(stem.weight.values, colour_model.network.stem.weight.detach())
    np.testing.assert_array_equal(stem.bias, colour_model.network.stem.bias.detach())
    assert not stem.weight.step.any()


def test_a_session_gives_every_layer_and_reads_what_is_given_for_a_cut_one(
    colour_network, colour_model, colour_samples
):
    batch = {"input:image": colour_samples.inputs["image"][:8]}
    with colour_network.session("PyTorch", frozenset()) as run:
        whole = run(batch)
    wanted = colour_model.network(torch.from_numpy(batch["input:image"])).detach().numpy()
    np.testing.assert_allclose(whole["linear/linear"], wanted, atol=1e-5)
    assert whole["stem/conv2d"].min() == 0  # behind its activation
    with colour_network.session("PyTorch", frozenset({"stem/conv2d"})) as run:
        found = run({**batch, "stem/conv2d": np.zeros_like(whole["stem/conv2d"])})
    np.testing.assert_array_equal(found["stem/conv2d"], whole["stem/conv2d"])
    bias = colour_model.network.body.bias.detach().numpy()
    np.testing.assert_allclose(found["body/conv2d"][3, :, 2, 2], bias, atol=1e-6)


def test_a_trained_network_is_left_as_it_was(colour_model):
    before = {name: tensor.clone() for name, tensor in colour_model.network.state_dict().items()}
    NetworkSide(colour_model, "x", 2)
    assert all(torch.equal(before[name], tensor) for name, tensor in colour_model.network.state_dict().items())

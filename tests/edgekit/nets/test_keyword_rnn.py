import numpy as np
import pytest
import torch
from torch import nn

from edgekit.data.splits import find_data
from edgekit.nets.keyword_rnn import FEATURE_OFFSETS, FEATURE_SCALES, KeywordGru, KeywordLstm
from edgekit.nets.load import build
from edgekit.schema.load import load_calibration, load_recipe

OFFSETS = (-3.0, 0.5, 0.25)
SCALES = (8.0, 2.0, 0.5)


def _trained(network: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return network.eval()


def _sequence() -> torch.Tensor:
    return torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(2))


def test_the_lstm_is_torchs_on_features_that_its_first_weights_and_biases_restore():
    ours = _trained(KeywordLstm(5, 4, OFFSETS, SCALES))
    theirs = nn.LSTM(3, 5, batch_first=True)
    theirs.load_state_dict({name.removeprefix("lstm."): value for name, value in ours.lstm.state_dict().items()})
    x = _sequence()
    with torch.no_grad():
        _, (h, c) = theirs(x * torch.tensor(SCALES) + torch.tensor(OFFSETS))
        torch.testing.assert_close(ours(x), ours.fc(h[0]), rtol=1e-5, atol=1e-5)
        states = torch.zeros(2, 5), torch.zeros(2, 5)
        for t in range(6):
            answer, *states = ours(x[:, t], *states)
    torch.testing.assert_close(states[1], c[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(answer, ours.fc(h[0]), rtol=1e-5, atol=1e-5)


def _gru_by_numpy(network: KeywordGru, x: np.ndarray) -> np.ndarray:
    """The cell of TensorFlow 1.x: gates r, u of [x, h]; candidate of [x, r * h]; u keeps the state."""
    weights = {name: tensor.numpy() for name, tensor in network.state_dict().items()}

    def layer(name: str, *parts: np.ndarray) -> np.ndarray:
        return np.concatenate(parts, 1) @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    h = np.zeros((len(x), network.units), np.float32)
    for t in range(x.shape[1]):
        features = x[:, t] * np.float32(SCALES) + np.float32(OFFSETS)
        r, u = np.split(1 / (1 + np.exp(-layer("gates", features, h))), 2, axis=1)
        q = np.tanh(layer("candidate", features, r * h))
        h = u * h + (1 - u) * q
    return layer("fc", h)


def test_the_gru_is_tensorflows():
    network = _trained(KeywordGru(5, 4, OFFSETS, SCALES))
    x = _sequence()
    with torch.no_grad():
        np.testing.assert_allclose(network(x).numpy(), _gru_by_numpy(network, x.numpy()), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("frames", [20, 40])
def test_the_networks_undo_what_the_data_come_by(frames, monkeypatch):
    monkeypatch.setenv("EDGEKIT_DATA", "somewhere")
    preprocess = load_calibration(f"speech-commands-{frames}ms").calibration.preprocess
    assert preprocess.std == FEATURE_SCALES
    assert preprocess.mean == FEATURE_OFFSETS


@pytest.mark.parametrize(("recipe", "right"), [("kws-lstm", 843), ("kws-lstm-m", 845), ("kws-gru", 865)])
def test_published_weights_reach_what_they_reach_on_raw_features(recipe, right, data_folder, monkeypatch):
    monkeypatch.setenv("EDGEKIT_DATA", str(data_folder))
    recipe = load_recipe(recipe).recipe
    network, data = build(recipe.model).network, find_data(recipe.data)
    found = 0
    for part in (data.splits.calibration, data.splits.selection, data.test):
        with torch.no_grad():
            found += int((network(part.inputs[0]).argmax(1) == part.labels).sum())
    assert abs(found - right) <= 1  # of 1,000; the order of additions may turn one

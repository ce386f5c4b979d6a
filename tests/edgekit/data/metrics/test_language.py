import numpy as np
import pytest
import torch
from torch.nn import functional

from edgekit.data.metrics import language
from edgekit.data.metrics.language import perplexity
from edgekit.errors import DataError

GENERATOR = np.random.default_rng(0)
LOGITS = (GENERATOR.normal(size=(3, 7, 11)) * 4).astype(np.float32)
LABELS = GENERATOR.integers(0, 11, (3, 7))


def test_perplexity_is_the_exponential_of_the_mean_cross_entropy(monkeypatch):
    labels = LABELS.copy()
    labels[0, 3:] = labels[2, 0] = -1
    entropy = functional.cross_entropy(
        torch.from_numpy(LOGITS).double().flatten(0, 1), torch.from_numpy(labels).flatten(), ignore_index=-1
    )
    assert perplexity(LOGITS, labels) == pytest.approx(float(entropy.exp()), rel=1e-12)
    monkeypatch.setattr(language, "_AT_ONCE", 40)  # three positions at a time, the last piece smaller
    assert perplexity(LOGITS, labels) == pytest.approx(float(entropy.exp()), rel=1e-12)


def test_a_network_that_knows_nothing_is_as_perplexed_as_there_are_tokens():
    assert perplexity(np.zeros((2, 5, 11), np.float32), LABELS[:2, :5]) == pytest.approx(11)
    assert perplexity(np.zeros((4, 11), np.float32), np.array([0, 3, 10, 5])) == pytest.approx(11)
    # exp of these logits is beyond float64
    assert perplexity(np.array([[[2000.0, 1999.0]]], np.float32), np.array([[0]])) == pytest.approx(1 + np.exp(-1))
    assert perplexity(np.array([[[9000.0, 0.0]]], np.float32), np.array([[1]])) == np.inf


@pytest.mark.parametrize(
    ("labels", "what"),
    [
        (np.full((3, 7), -1), "every label is -1, which does not count"),
        (np.where(LABELS == 4, 11, LABELS), "label 11 of sample"),
        (np.where(LABELS == 4, -2, LABELS), "label -2 of sample"),
        (LABELS[:, :6], "labels (3, 6) for outputs (3, 7, 11)"),
        (LABELS.astype(np.float32), "labels are float32, and tokens are integers"),
    ],
)
def test_labels_that_are_no_tokens_are_refused(labels, what):
    with pytest.raises(DataError) as caught:
        perplexity(LOGITS, labels)
    assert what in caught.value.what
    assert caught.value.where == "metric perplexity"

import numpy as np

from edgekit.data.loaders.digits import digits


def test_digits_are_split_without_loss_or_overlap():
    from sklearn.datasets import load_digits

    parts = digits()
    assert {name: len(part.labels) for name, part in parts.items()} == {"train": 1244, "selection": 138, "test": 415}
    everything = np.concatenate([part.inputs[0] for part in parts.values()])
    labels = np.concatenate([part.labels for part in parts.values()])
    wanted = load_digits()
    assert everything.shape == (1797, 8, 8, 1)
    assert everything.dtype == np.uint8
    key = {image.tobytes() + bytes([label]) for image, label in zip(everything, labels, strict=True)}
    assert key == {
        image.astype(np.uint8).tobytes() + bytes([label])
        for image, label in zip(wanted.images, wanted.target, strict=True)
    }
    assert np.array_equal(parts["test"].inputs[0][3, :, :, 0], wanted.images[15])  # 2, 6, 10, then 15
    for part in parts.values():
        assert np.bincount(part.labels, minlength=10).min() > 0.04 * len(part.labels)

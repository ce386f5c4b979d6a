"""Writes handwriting.npz: scikit-learn's 1,797 handwritten digits, as any data of your own would be written.

An .npz of plain arrays is enough: raw inputs as they come from the sensor, and one integer label each.
"""

import numpy as np
from sklearn.datasets import load_digits

if __name__ == "__main__":
    digits = load_digits()
    images = digits.images.astype(np.uint8)[..., None]  # (N, 8, 8, 1), values 0..16
    labels = digits.target.astype(np.int64)
    # Neighbours come from one writer, so parts are interleaved: every fifth image is a test image.
    test = np.arange(len(labels)) % 5 == 4
    np.savez(
        "handwriting.npz",
        train_images=images[~test],
        train_labels=labels[~test],
        test_images=images[test],
        test_labels=labels[test],
    )

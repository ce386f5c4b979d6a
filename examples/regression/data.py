"""Diabetes patients and how their illness went on: the data set that comes with scikit-learn, cut into splits."""

import numpy as np
from sklearn.datasets import load_diabetes

MEAN, SPREAD = 152.0, 77.0  # of the training targets; the network learns them in units of their spread


def samples() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Parts of inputs (N, 10) and targets (N, 1), both float32. Every fifth patient is for testing."""
    data = load_diabetes()
    inputs = (data.data * np.sqrt(len(data.data))).astype(np.float32)  # every column has mean 0 and variance 1
    targets = ((data.target - MEAN) / SPREAD).astype(np.float32)[:, None]
    place = np.arange(len(inputs)) % 10
    parts = {"train": place < 7, "calibration": place < 7, "selection": place == 7, "test": place > 7}
    return {name: (inputs[chosen], targets[chosen]) for name, chosen in parts.items()}

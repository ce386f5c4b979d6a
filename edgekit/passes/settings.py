"""Process-wide torch settings, set for a while and put back."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_CUBLAS = "CUBLAS_WORKSPACE_CONFIG"


@contextmanager
def reproducible(seed: int, device: torch.device) -> Iterator[None]:
    """Deterministic kernels and a seeded global generator inside; everything as it was outside.

    An operation without a deterministic kernel raises on a CPU and warns on a GPU, where some have none. Results are
    equal bit for bit on the same machine with the same libraries and the same number of threads.
    """
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    benchmark, cudnn = torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic
    workspace = os.environ.get(_CUBLAS)
    cuda = device.type == "cuda"
    with torch.random.fork_rng(devices=[device] if cuda else []):
        try:
            if cuda and workspace is None:
                os.environ[_CUBLAS] = ":4096:8"  # cuBLAS is deterministic only with a fixed workspace
            torch.use_deterministic_algorithms(True, warn_only=cuda)
            torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = False, True
            torch.manual_seed(seed)
            yield
        finally:
            torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
            torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = benchmark, cudnn
            if cuda and workspace is None:
                os.environ.pop(_CUBLAS, None)

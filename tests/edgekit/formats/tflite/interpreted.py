"""Running TFLite files in tests."""

import numpy as np
import torch

from edgekit.formats.artifact import Artifact


def run_litert(artifact: Artifact, x: torch.Tensor) -> np.ndarray:
    """Real numbers that LiteRT gives for one sample in the network's layout."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(artifact.path), num_threads=1)
    interpreter.allocate_tensors()
    (given,), (made,) = interpreter.get_input_details(), interpreter.get_output_details()
    value = x.permute(0, 2, 3, 1).numpy() if x.dim() == 4 else x.numpy()
    scale, zero_point = given["quantization"]
    if scale:
        limits = np.iinfo(given["dtype"])
        value = np.clip(np.rint(value / np.float32(scale)) + zero_point, limits.min, limits.max).astype(given["dtype"])
    interpreter.set_tensor(given["index"], value)
    interpreter.invoke()
    scale, zero_point = made["quantization"]
    codes = interpreter.get_tensor(made["index"])
    return (codes.astype(np.float64) - zero_point) * scale if scale else codes

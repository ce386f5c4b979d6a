"""TensorRT-ready ONNX and the plan to build its engine on the board."""

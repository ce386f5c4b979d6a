"""ONNX, for ONNX Runtime."""

"""ONNX in: an .onnx file becomes a network of ordinary torch layers, on which every later stage works."""

"""TFLite, for LiteRT and tflite-runtime."""

"""Post-training quantisation. `quantize.py` is the pass; every other file is one thing that it may do."""

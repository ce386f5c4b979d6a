"""Zeros among the weights while a network trains. `masks.py` is what the training loop calls."""

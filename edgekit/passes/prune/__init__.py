"""Structured pruning: whole channels, heads and blocks go, and the layers become smaller dense layers."""

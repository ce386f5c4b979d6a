"""Passes: a model in, a model out. `table.py` names them all."""

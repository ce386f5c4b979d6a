"""Exact rewrites before rounding. `equalise.py` is the pass; the others are methods, and questions to the graph."""

"""edgekit: from a trained network to a measured, gated, verifiable bundle for an edge board."""

__version__ = "0.1.0"

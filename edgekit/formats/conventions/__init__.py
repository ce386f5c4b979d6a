"""Conventions: how each runtime wants its integers."""

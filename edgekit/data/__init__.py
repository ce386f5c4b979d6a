"""Data sets, the splits cut out of them, and metrics."""

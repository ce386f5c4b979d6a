"""Pure tensor functions: folding, merging, integer grids."""

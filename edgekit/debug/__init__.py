"""Finding the layer at which an artifact departs from what it should be."""

"""`edgekit init`: looks at a model and at data, and writes the recipe that builds them."""

"""What is shipped: gates, the bundle and its evidence, verification."""

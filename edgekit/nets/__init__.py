"""Networks: definitions, loading, structure changes, counting, saving."""

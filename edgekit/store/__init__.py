"""What outlives a build: the cache of steps, the database of profiles."""

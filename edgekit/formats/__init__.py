"""Formats: a model and a convention become an artifact."""

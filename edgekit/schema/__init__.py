"""Schemas of everything that crosses a file boundary. pydantic only: no torch, no numpy."""

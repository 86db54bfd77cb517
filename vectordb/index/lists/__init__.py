"""Inverted lists of dense fields, with RaBitQ codes."""

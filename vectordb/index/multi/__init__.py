"""The index of multi-vector fields."""

"""The vector field types: how each is stored, checked, encoded and searched exactly."""

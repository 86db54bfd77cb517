"""The impact-ordered index of sparse fields: build, calibrate, search."""

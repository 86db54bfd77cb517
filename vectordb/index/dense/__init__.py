"""The HNSW index of dense fields: build, calibrate, search."""

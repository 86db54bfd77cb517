"""Measurements: each figure is a ratio against a peer that ran in the same minute on the same machine."""

"""Fusion: one ranking of the results of several arms, with each arm's part in every score."""

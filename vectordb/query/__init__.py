"""Queries: checked requests, the plan that answers them, fusion of arms."""

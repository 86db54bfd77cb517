"""Metrics, logs, tracing, health and status of a service."""

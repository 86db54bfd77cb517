"""The clients of a service, and the messages that they send."""

"""The handlers of the gRPC methods."""

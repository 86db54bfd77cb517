"""The gRPC service: ``serve.serve`` a directory until a signal comes, or ``serve.start`` a server over an open database."""

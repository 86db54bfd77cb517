"""Keeps gRPC from writing lines such as a failed handshake to stderr: the errors that are raised say the same.

Import it before grpc, which reads the variable when it is loaded. A value that is set already stays as it is.
"""

import os

os.environ.setdefault("GRPC_VERBOSITY", "NONE")

"""Ask a service whether it takes calls: what a container's or a load balancer's health check runs."""

from __future__ import annotations

from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from ..errors import InvalidArgumentError, UnavailableError


def check(target: str, timeout: float, ca: Path | None = None, cert: Path | None = None, key: Path | None = None) -> None:
    """Returns when the service at ``host:port`` takes calls. timeout: seconds. ca, cert, key: PEM files, where it speaks TLS.

    Raises UnavailableError that says why not, InvalidArgumentError for a file that can't be read.
    """
    if (cert is None) != (key is None):
        raise InvalidArgumentError("--tls-cert and --tls-key go together", field="tls_cert")
    if ca is None:
        channel = grpc.insecure_channel(target)
    else:
        pair = (None, None) if cert is None else (_pem(key), _pem(cert))
        channel = grpc.secure_channel(target, grpc.ssl_channel_credentials(_pem(ca), *pair))
    with channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(service="vectordb.v1.VectorDB"), timeout=timeout
            )
        except grpc.RpcError as error:
            what = f"{target} doesn't answer: {error.code().name}: {error.details()}"
            raise UnavailableError(what, field="target", value=target) from None
    if answer.status != health_pb2.HealthCheckResponse.SERVING:
        word = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
        raise UnavailableError(f"{target} is {word}", field="target", value=target)


def _pem(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidArgumentError(f"{path} can't be read: {error.strerror}", field="tls", value=str(path)) from None

"""Ask a service whether it takes calls: what a container's or a load balancer's health check runs."""

from __future__ import annotations

from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from vectordb_client.channel import check_target, connection_hint, open_channel

from ..errors import UnavailableError


def check(target: str, timeout: float, tls: bool | Path = False, tls_cert: Path | None = None, tls_key: Path | None = None) -> None:
    """Returns when the service at ``host:port`` takes calls. timeout: seconds. tls, tls_cert, tls_key: as for ``Client``.

    Raises UnavailableError that says why not, InvalidArgumentError for a file that can't be read.
    """
    with open_channel(grpc, check_target(target), [], tls, tls_cert, tls_key) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(service="vectordb.v1.VectorDB"), timeout=timeout
            )
        except grpc.RpcError as error:
            what = f"{target} doesn't answer: {error.code().name}: {error.details()}{connection_hint(error.details() or '')}"
            raise UnavailableError(what, field="target", value=target) from None
    if answer.status != health_pb2.HealthCheckResponse.SERVING:
        word = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
        raise UnavailableError(f"{target} is {word}", field="target", value=target)

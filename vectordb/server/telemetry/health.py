"""Check that a service accepts calls, for the health check of a container or load balancer."""

from __future__ import annotations

import time
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from vectordb_client.errors import UnavailableError
from vectordb_client.rpc.channel import check_target, connection_problem, open_channel

_PAUSE_SECONDS = 0.25


def check(target: str, timeout: float, tls: bool | Path = False, tls_cert: Path | None = None, tls_key: Path | None = None) -> None:
    """Return if the service at ``host:port`` accepts calls. timeout: seconds. tls, tls_cert, tls_key: as for ``Client``.

    Raises UnavailableError if it does not, InvalidArgumentError for a file that can't be read.
    """
    target, end = check_target(target), time.monotonic() + timeout
    while True:
        try:
            answer = _ask(target, max(end - time.monotonic(), 0.001), tls, tls_cert, tls_key)
            break
        except grpc.RpcError as error:
            # A service with too many connections closes new ones at once, until it has shut idle ones: retry.
            full = error.code() is grpc.StatusCode.UNAVAILABLE and "refused" not in (error.details() or "")
            if not full or time.monotonic() + _PAUSE_SECONDS >= end:
                what = f"{target} doesn't answer: {error.code().name}: {connection_problem(error.details() or '')}"
                raise UnavailableError(what, field="target", value=target) from None
            time.sleep(_PAUSE_SECONDS)
    if answer.status != health_pb2.HealthCheckResponse.SERVING:
        word = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
        raise UnavailableError(f"{target} is {word}", field="target", value=target)


def _ask(target: str, timeout: float, tls: bool | Path, tls_cert: Path | None, tls_key: Path | None) -> health_pb2.HealthCheckResponse:
    with open_channel(grpc, target, [], tls, tls_cert, tls_key) as channel:
        return health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service="vectordb.v1.VectorDB"), timeout=timeout)

"""OpenTelemetry: one span per call, a child of the caller's span if its metadata names one. Imported only if tracing is on."""

from __future__ import annotations

import os
from typing import Any

from vectordb_client._version import __version__
from vectordb_client.errors import InvalidArgumentError

try:
    from opentelemetry import propagate
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter
    from opentelemetry.trace import SpanKind, Status, StatusCode
except ImportError as missing:
    raise InvalidArgumentError(
        f"tracing needs OpenTelemetry ({missing}): pip install opentelemetry-sdk opentelemetry-exporter-otlp", field="tracing", value=True
    ) from missing


class Tracing:
    """Creates spans. provider: where they go; None creates one, with the exporter that the environment names."""

    def __init__(self, provider: TracerProvider | None = None):
        self._provider = provider or _provider()
        self._tracer = self._provider.get_tracer("vectordb", __version__)

    def begin(self, method: str, metadata: Any) -> Any:
        """Start the span of a call, as a child of the ``traceparent`` in its metadata (or as OTEL_PROPAGATORS says)."""
        carrier = {key: value for key, value in metadata or () if isinstance(value, str)}
        attributes = {"rpc.system": "grpc", "rpc.service": "vectordb.v1.VectorDB", "rpc.method": method, "vectordb.method": method}
        name = f"vectordb.v1.VectorDB/{method}"
        return self._tracer.start_span(name, propagate.extract(carrier), kind=SpanKind.SERVER, attributes=attributes)

    def end(self, span: Any, attributes: dict[str, Any], error: str | None) -> None:
        """End a span. attributes: collection, plan and k if known; error: the class of the call's error."""
        span.set_attributes({f"vectordb.{name}": value for name, value in attributes.items() if value is not None})
        if error is not None:
            span.set_attribute("error.type", error)
            span.set_status(Status(StatusCode.ERROR))
        span.end()

    def close(self) -> None:
        """Send the remaining spans."""
        self._provider.shutdown()


def _provider() -> TracerProvider:
    name = {} if os.environ.get("OTEL_SERVICE_NAME") else {SERVICE_NAME: "vectordb"}
    provider = TracerProvider(resource=Resource.create(name))
    exporter = _exporter()
    if exporter is not None:
        provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider


def _exporter() -> SpanExporter | None:
    """The exporter of OTEL_TRACES_EXPORTER and OTEL_EXPORTER_OTLP_PROTOCOL. It reads its address and headers from the environment."""
    kind = os.environ.get("OTEL_TRACES_EXPORTER") or "otlp"
    if kind == "none":
        return None
    if kind == "console":
        return ConsoleSpanExporter()
    if kind != "otlp":
        raise InvalidArgumentError(
            f"OTEL_TRACES_EXPORTER must be otlp, console or none, not {kind!r}", field="OTEL_TRACES_EXPORTER", value=kind
        )
    protocol = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL") or "grpc"
    if protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    elif protocol == "http/protobuf":
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    else:
        what = f"OTEL_EXPORTER_OTLP_PROTOCOL must be grpc or http/protobuf, not {protocol!r}"
        raise InvalidArgumentError(what, field="OTEL_EXPORTER_OTLP_PROTOCOL", value=protocol)
    return OTLPSpanExporter()

"""The operations on a field."""

from __future__ import annotations

import time
from collections.abc import Iterator

import grpc
from vectordb_client.errors import UnavailableError
from vectordb_client.rpc import explore
from vectordb_client.v1 import vectordb_pb2 as pb

from .served import Methods

_REPORT_SECONDS = 0.1  # between two messages about the progress


class ExploreMethods(Methods):
    def explore(self, request: pb.ExploreRequest, context: grpc.ServicerContext) -> Iterator[bytes]:
        collection, _ = self.served.find_fresh(request, context)
        steps, reported = collection.pieces.explore(explore.unpack_request(request)), 0.0
        try:
            while True:
                done, total = next(steps)
                if self.served.stopping.is_set():
                    raise UnavailableError("the service is shutting down")
                now = time.monotonic()
                if now - reported >= _REPORT_SECONDS or done == total:
                    reported = now
                    yield pb.ExploreResponse(done=done, total=total).SerializeToString()
        except StopIteration as end:
            result = end.value
        finally:
            steps.close()
        # The snapshot is released: what is sent now is in memory.
        yield from explore.pack(result, self.served.max_message_bytes, collection.revision)

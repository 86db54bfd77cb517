#!/bin/sh
# Generates client/vectordb_client/v1/vectordb_pb2.py from proto/. Needs grpcio-tools; PYTHON names the interpreter.
set -eu
cd "$(dirname "$0")/.."
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
"${PYTHON:-python}" -m grpc_tools.protoc --proto_path=proto --python_out="$out" vectordb/v1/vectordb.proto
cp "$out/vectordb/v1/vectordb_pb2.py" client/vectordb_client/v1/vectordb_pb2.py

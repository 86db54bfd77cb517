#!/bin/sh
# Generates client/vectordb_client/v1/vectordb_pb2.py from proto/; with --check it only says whether that file is what it would be.
# Needs grpcio-tools; PYTHON names the interpreter.
set -eu
cd "$(dirname "$0")/.."
made=client/vectordb_client/v1/vectordb_pb2.py
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
"${PYTHON:-python}" -m grpc_tools.protoc --proto_path=proto --python_out="$out" vectordb/v1/vectordb.proto
case "${1:-}" in
    "") cp "$out/vectordb/v1/vectordb_pb2.py" "$made" ;;
    --check) diff -u "$made" "$out/vectordb/v1/vectordb_pb2.py" ;;
    *) echo "proto.sh: unknown argument $1" >&2; exit 2 ;;
esac

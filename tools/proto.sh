#!/bin/sh
# Generates client/vectordb_client/v1/vectordb_pb2.py and its type stub vectordb_pb2.pyi from proto/. With --check it only compares: it fails
# when a committed file differs from what would be generated.
# Needs grpcio-tools; PYTHON names the interpreter.
set -eu
cd "$(dirname "$0")/.."
target=client/vectordb_client/v1
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
"${PYTHON:-python}" -m grpc_tools.protoc --proto_path=proto --python_out="$out" --pyi_out="$out" vectordb/v1/vectordb.proto
case "${1:-}" in
    "") cp "$out/vectordb/v1/vectordb_pb2.py" "$out/vectordb/v1/vectordb_pb2.pyi" "$target" ;;
    --check)
        diff -u "$target/vectordb_pb2.py" "$out/vectordb/v1/vectordb_pb2.py"
        diff -u "$target/vectordb_pb2.pyi" "$out/vectordb/v1/vectordb_pb2.pyi"
        ;;
    *) echo "proto.sh: unknown argument $1" >&2; exit 2 ;;
esac

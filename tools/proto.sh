#!/bin/sh
# Generates the modules client/vectordb_client/v1/*_pb2.py and their type stubs *_pb2.pyi from proto/. With --check it only compares: it
# fails when a committed file differs from what would be generated.
# Needs grpcio-tools; PYTHON names the interpreter.
set -eu
cd "$(dirname "$0")/.."
target=client/vectordb_client/v1
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
"${PYTHON:-python}" -m grpc_tools.protoc --proto_path=proto --python_out="$out" --pyi_out="$out" vectordb/v1/options.proto vectordb/v1/vectordb.proto
for file in "$out"/vectordb/v1/*; do
    # protoc imports by the path of the proto file; the modules lie in another package.
    sed 's/^from vectordb\.v1 import/from . import/' "$file" > "$out/${file##*/}"
    case "${1:-}" in
        "") cp "$out/${file##*/}" "$target" ;;
        --check) diff -u "$target/${file##*/}" "$out/${file##*/}" ;;
        *) echo "proto.sh: unknown argument $1" >&2; exit 2 ;;
    esac
done

"""Messages generated from proto/vectordb/v1/vectordb.proto by tools/proto.sh. Don't edit."""

"""The data model that the embedded database and the client share: schemas, values, batches, filters, results. It needs no gRPC."""

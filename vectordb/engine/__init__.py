"""One directory: what a transaction sees, how a write is applied, which index files are open."""

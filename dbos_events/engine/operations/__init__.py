"""The durable operations, each written once for both colours, without I/O of their own."""

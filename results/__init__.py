"""Episode records, statistics, tables and reports; independent of JAX and Ray."""

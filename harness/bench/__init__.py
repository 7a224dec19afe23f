"""Benchmarks of the engine, the driver and single queries, run by `simloop bench`."""

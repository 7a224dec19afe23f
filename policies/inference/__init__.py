"""Policies from models: loading, compilation, batching of queries, kernels and quantization."""

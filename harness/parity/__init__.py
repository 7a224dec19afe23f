"""Number-by-number comparison with recorded outputs of the reference implementation."""

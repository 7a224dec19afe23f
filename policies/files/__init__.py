"""Downloads, the cache folder, videos and progress bars. Needs no JAX."""

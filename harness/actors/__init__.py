"""Ray actors: environments on CPUs, policies on accelerators, and the client between them."""

"""Robot policies: the pi0 family in JAX, scripted baselines, and what they need to run."""

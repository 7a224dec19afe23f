"""The pi0 family in JAX and flax: transformer, image encoder, pi0, pi0.5 and pi0-FAST."""

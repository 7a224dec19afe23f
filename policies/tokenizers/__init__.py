"""Tokenizers of instructions, states and actions. Needs no JAX except for `fsq`."""

"""Text, states and actions as token ids, and token ids as actions. Needs no JAX except for `fsq`."""

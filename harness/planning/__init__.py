"""Experiments, protocols, seeds, and the ordered plan of episodes."""

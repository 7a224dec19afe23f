"""Explain answers of models: attention, spread over noise, token probabilities, sensitivity, distance from training."""

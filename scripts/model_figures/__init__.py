"""Drawings of the models, made from what the models themselves do."""

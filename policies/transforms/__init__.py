"""Normalization, image preprocessing and augmentation."""

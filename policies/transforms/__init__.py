"""Normalisation, image preprocessing and augmentation."""

"""Detects images that are unlike the training images of a model."""

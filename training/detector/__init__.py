"""Fits and measures the detector of images that are unlike the training images."""

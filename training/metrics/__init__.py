"""Metrics of classifiers and masks, from their definitions."""

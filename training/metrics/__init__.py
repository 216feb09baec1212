"""Metrics of classifications and masks."""

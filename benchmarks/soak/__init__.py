"""Soak test of a published server under change and failure."""

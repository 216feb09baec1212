"""Benchmarks; run them from the root of a checkout."""

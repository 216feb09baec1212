"""Compares RadServe with other servers of the same model."""

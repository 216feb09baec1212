"""Decodes image files and zips of them."""

"""Scope of a model: which patients and images it was made for, and what a file or its sender states about them."""

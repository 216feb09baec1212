"""Backends that run a model: an inference server, or a model in this process."""

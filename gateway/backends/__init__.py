"""Backends that run models: a model server, or one model in this process."""

"""Supervisor of TorchServe: start, readiness, drain, resources."""

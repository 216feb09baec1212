"""Supervisor of TorchServe and the proxy: start, readiness, health API, drain and shutdown."""

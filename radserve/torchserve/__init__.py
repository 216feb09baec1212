"""TorchServe: command, configuration, management API, model registry and readiness."""

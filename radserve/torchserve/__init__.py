"""TorchServe: command, configuration, management API, workers and models."""

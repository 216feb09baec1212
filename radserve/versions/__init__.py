"""The command line for versions and rollouts: a running server's control API, asked and shown."""

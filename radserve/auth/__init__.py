"""API keys: roles, storage, and the endpoint that validates them for nginx."""

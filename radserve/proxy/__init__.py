"""nginx in front of the server: configuration, process, TLS, traffic split and access events."""

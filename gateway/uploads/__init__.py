"""Images of a request: bodies, presigned uploads, URLs."""

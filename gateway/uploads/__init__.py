"""Images of a request: request bodies, presigned uploads, and URLs."""

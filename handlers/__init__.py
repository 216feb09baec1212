"""What travels inside every archive: the pipeline from the bytes of a request to its answer."""

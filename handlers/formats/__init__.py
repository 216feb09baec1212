"""Image files and pixel formats: bytes to a decoded image."""

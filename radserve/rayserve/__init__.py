"""Ray Serve as the engine of the server: launch of its process, and the adapter that this process runs."""

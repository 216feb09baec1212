"""The command line: build archives, serve them, ask them."""

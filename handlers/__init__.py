"""Handlers of RadServe's archives: the code in every archive that turns image bytes into a response."""

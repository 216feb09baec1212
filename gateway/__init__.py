"""The front door: web page, API for applications, result history. It speaks HTTP to TorchServe and loads no torch."""

"""Open Inference Protocol, version 2 (https://github.com/kserve/open-inference-protocol), with binary tensor data.

Translates between tensors and the documents of predictions; `gateway.api.open_inference` has the routes.
"""

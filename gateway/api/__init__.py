"""Routes of the API, one module per resource, and what they share: parameters, bodies, examples, inference, OpenAPI."""

"""Recipe and weights to a model archive (.mar); the model store index."""

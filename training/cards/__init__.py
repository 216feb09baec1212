"""Model cards, rendered from a recipe and its metrics."""

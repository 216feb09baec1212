"""Section of a model card: images on which the model is known to fail."""

from handlers.recipe import Recipe


def section(recipe: Recipe) -> tuple[str, ...]:
    """Return the paragraphs; none if no failures are recorded."""
    if not recipe.known_failures:
        return ()
    return ("## Known failures", "\n".join(f"- {text.strip()}" for text in recipe.known_failures))

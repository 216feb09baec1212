"""Documents that cross a boundary, as immutable pydantic models.

A model accepts only a consistent document: a label that is among the probabilities, a mask with the size of its image,
a box around exactly the marked pixels. Unknown keys are ignored, so that an older client reads a newer server.
"""

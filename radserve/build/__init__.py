"""Builds model archives (.mar) from recipes and weights, imports foreign weights, and indexes the model store."""

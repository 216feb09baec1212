"""Documents that cross a boundary."""

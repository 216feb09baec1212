"""Scores many images with one archive, each exactly once: `radserve score`."""

"""Evaluators: calibrate and measure a trained network on one part of a split.

Each kind of model output has an evaluator. Evaluators work on logits, so the network runs only once.
"""

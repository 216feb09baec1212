"""Registers model versions, rolls them out and back, and records every change."""

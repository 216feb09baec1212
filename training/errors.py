"""The branches of the tree that only training raises; its root is in `handlers.errors`."""

from __future__ import annotations

from handlers.errors import RadServeError


class TrainingError(RadServeError):
    """A model cannot be trained, evaluated or released."""


class DataError(TrainingError):
    """A folder of training data is not what its data set should be."""


class SettingsError(TrainingError):
    """A training setting has a wrong key or value."""


class RunError(TrainingError):
    """A result folder cannot be used for what was asked."""


class NetworkError(TrainingError):
    """There is no such network, or weights do not fit it."""

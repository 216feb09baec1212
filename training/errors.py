"""Exceptions of training; their base class is in `handlers.errors`."""

from handlers.errors import RadServeError


class TrainingError(RadServeError):
    """A model cannot be trained, evaluated or released."""


class DataError(TrainingError):
    """A folder does not contain a valid data set."""


class SettingsError(TrainingError):
    """A training setting has an invalid key or value."""


class RunError(TrainingError):
    """A result folder is unsuitable for the operation."""


class JobError(TrainingError):
    """The configuration of a training job is invalid."""


class NetworkError(TrainingError):
    """A network does not exist, or weights do not fit it."""

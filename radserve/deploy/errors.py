"""Errors of `radserve deploy`."""

from radserve.errors import RadServeError


class DeployError(RadServeError):
    """Base class: a command on an environment failed."""


class SettingsError(DeployError):
    """Invalid environment file or option; nothing was changed."""

    code = 2


class CloudError(DeployError):
    """AWS is unreachable or rejected a request."""


class StackError(DeployError):
    """A stack prevents a change or failed; the message has the reason of the first resource that failed."""


class TrainingJobError(DeployError):
    """A training job failed, was stopped, or has no usable result."""


class MissingPrerequisiteError(DeployError):
    """Something that a stack needs does not exist or does not suffice; nothing was changed."""

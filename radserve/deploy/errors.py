"""The branch of the tree that `radserve deploy` raises; its root is in `handlers.errors`."""

from __future__ import annotations

from handlers.errors import RadServeError


class DeployError(RadServeError):
    """An environment cannot be planned, applied, looked at or taken down."""


class SettingsError(DeployError):
    """The file of an environment, or an option that changes it, is wrong; nothing was asked of AWS."""

    code = 2


class CloudError(DeployError):
    """AWS could not be asked, or refused."""


class StackFailedError(DeployError):
    """A stack did not become what was asked for; the message has the first resource's reason."""

"""Formats the errors of pydantic, for packages that do not import handlers."""

from handlers.validation_error import describe as describe  # noqa: PLC0414

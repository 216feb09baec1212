"""The Lambda function: one application that starts once per instance and handles one event at a time."""

import asyncio
import logging
import os
from collections.abc import Mapping
from typing import Any, Final

from fastapi import FastAPI
from mangum import Mangum
from mangum.protocols import HTTPCycle
from starlette.middleware import Middleware

from gateway import app
from gateway.errors import SettingsError
from gateway.lambda_ import event as events
from gateway.lambda_.limits import TEXT_TYPES, LambdaLimits
from gateway.settings import PREFIX, Settings
from radserve import logging as log

DEFAULTS: Final[Mapping[str, object]] = {"history": "none", "timeout": 25.0, "max_bytes": 4_500_000}
"""Defaults that differ on Lambda: files do not outlive an instance, API Gateway times out after 29 s, and an event is
limited to 6 MB, in which images are base64 (4/3 of their size)."""
_REQUEST_ID: Final = b"x-request-id"


class Function:
    """Handles events of API Gateway (REST and HTTP), function URLs and load balancers.

    Lambda freezes the process between events. Therefore one event loop exists for the life of the process, and the
    application's lifespan is never left: connections are reused, and background tasks run with the next event.
    """

    def __init__(self, application: FastAPI) -> None:
        application.user_middleware.append(Middleware(LambdaLimits))  # innermost: headers and log lines remain
        self._app = application
        self._mangum = Mangum(application, lifespan="off", text_mime_types=list(TEXT_TYPES))
        self._loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self._loop)
        self._lifespan = application.router.lifespan_context(application)
        self._loop.run_until_complete(self._lifespan.__aenter__())

    def __call__(self, event: dict[str, Any], context: Any) -> dict[str, Any]:
        """Handle one event; called by the Lambda runtime."""
        asyncio.set_event_loop(self._loop)
        event = events.sanitize(event)
        adapter = self._mangum.infer(event, context)
        scope = adapter.scope
        scope["path"] = scope["path"].removeprefix(events.path_prefix(event)) or "/"
        scope["client"] = (events.client_address(event, scope["client"][0]), 0)
        if all(name != _REQUEST_ID for name, _ in scope["headers"]):  # joins our log lines with those of Lambda
            scope["headers"].append([_REQUEST_ID, context.aws_request_id.encode()])
        return adapter(HTTPCycle(scope, adapter.body)(self._app))

    def close(self) -> None:
        """Leave the lifespan, for tests; Lambda does not announce the end of an instance."""
        self._loop.run_until_complete(self._lifespan.__aexit__(None, None, None))
        self._loop.close()


def start() -> Function:
    """Start the function; raises SettingsError or KeysError if settings are invalid or authentication is off."""
    log.configure()
    defaults = {name: value for name, value in DEFAULTS.items() if f"{PREFIX}{name.upper()}" not in os.environ}
    settings = Settings.read(**defaults)
    logging.getLogger("gateway").setLevel(settings.log)
    if not settings.keys and not settings.oidc_issuer:
        raise SettingsError(
            f"Authentication is off ({PREFIX}KEYS is not set). Set it to secretsmanager:NAME or ssm:NAME of a keys "
            f"file ('radserve keys create'), or set {PREFIX}OIDC_ISSUER."
        )
    return Function(app.create(settings))

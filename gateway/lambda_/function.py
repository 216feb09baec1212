"""One instance of the Lambda function: an application that starts once and answers one event after the other."""

from __future__ import annotations

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
from gateway.lambda_ import event
from gateway.lambda_.limits import TEXT, Bounds
from gateway.settings import PREFIX, Settings
from radserve import logging as log

DEFAULTS: Final[Mapping[str, object]] = {"history": "none", "timeout": 25.0, "max_bytes": 4_500_000}
"""What is different on Lambda where no variable says it: no file outlives an instance; API Gateway waits for 29 s; an
event has 6 MB, of which an image's base64 is four thirds of its bytes."""
_REQUEST_ID: Final = b"x-request-id"


class Function:
    """Answers the events of API Gateway (REST and HTTP), function URLs and load balancers.

    Lambda freezes the process between two events. So there is one event loop for its life, and the application's
    lifespan is entered once and never left: connections are used again, and what is due meanwhile happens with the
    next event.
    """

    def __init__(self, application: FastAPI) -> None:
        application.user_middleware.append(Middleware(Bounds))  # innermost: others' headers and log lines stay
        self._app = application
        self._mangum = Mangum(application, lifespan="off", text_mime_types=list(TEXT))
        self._loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self._loop)
        self._lifespan = application.router.lifespan_context(application)
        self._loop.run_until_complete(self._lifespan.__aenter__())

    def __call__(self, received: dict[str, Any], context: Any) -> dict[str, Any]:
        """Answer one event; called by the runtime."""
        asyncio.set_event_loop(self._loop)
        tidied = event.tidied(received)
        adapter = self._mangum.infer(tidied, context)
        scope = adapter.scope
        scope["path"] = scope["path"].removeprefix(event.prefix(tidied)) or "/"
        scope["client"] = (event.address(tidied, scope["client"][0]), 0)
        if all(name != _REQUEST_ID for name, _ in scope["headers"]):  # joins our log lines with Lambda's own
            scope["headers"].append([_REQUEST_ID, context.aws_request_id.encode()])
        return adapter(HTTPCycle(scope, adapter.body)(self._app))

    def close(self) -> None:
        """Leave the lifespan, for tests; Lambda never says that an instance ends."""
        self._loop.run_until_complete(self._lifespan.__aexit__(None, None, None))
        self._loop.close()


def start() -> Function:
    """Start the function that the variables describe.

    Raises
    ------
    SettingsError, KeysError
        If they describe none that can or may start.
    """
    log.configure()
    unsaid = {name: value for name, value in DEFAULTS.items() if f"{PREFIX}{name.upper()}" not in os.environ}
    settings = Settings.read(**unsaid)
    logging.getLogger("gateway").setLevel(settings.log)
    if not settings.keys and not settings.oidc_issuer:
        raise SettingsError(
            f"{PREFIX}KEYS is not set: whoever reaches this function could ask anything. Set it to "
            f"secretsmanager:NAME or ssm:NAME of a keys file ('radserve keys create'), or set {PREFIX}OIDC_ISSUER."
        )
    return Function(app.make(settings))

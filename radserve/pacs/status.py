"""HTTP endpoint of the loop: cases, resending, metrics and health (docs/pacs.md)."""

import hmac
import json
import logging
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from socket import SHUT_RDWR
from socketserver import ThreadingTCPServer
from sqlite3 import Error as DatabaseError
from typing import Annotated, Any, Final
from urllib.parse import parse_qsl

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from radserve.errors import PacsError
from radserve.pacs.metrics import registry
from radserve.pacs.queue import Job, Queue
from radserve.pacs.settings import Status
from radserve.schema.cases import Case, Cases, CaseState, Resent
from radserve.validation_error import describe

_LOCAL: Final = re.compile(r"(127\.0\.0\.1|localhost)(:[0-9]+)?")
_CONNECTIONS: Final = 16  # at the same time
_DEADLINE: Final = 30.0  # seconds of a connection
_RESEND: Final = re.compile(r"/cases(?:/([0-9]{1,15}))?/resend")
logger = logging.getLogger(__name__)


class _Query(BaseModel):
    model_config = ConfigDict(extra="forbid")

    state: CaseState | None = None
    after: Annotated[int, Field(ge=1, le=2**63 - 1)] | None = None
    limit: Annotated[int, Field(ge=1, le=200)] = 50


@contextmanager
def running(settings: Status, queue: Queue) -> Iterator[int]:
    """Serve, and yield the port; raises PacsError if the address is in use."""
    try:
        server = _Server(settings, queue)
    except OSError as error:
        raise PacsError(f"Cannot listen on {settings.address}: {error.strerror}.") from error
    with server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield int(server.server_address[1])
        finally:
            server.shutdown()


def page(queue: Queue, state: CaseState | None, after: int | None, limit: int) -> Cases:
    """Return a page of cases."""
    jobs = queue.jobs(state, limit + 1, after)
    more = jobs[limit - 1].id if len(jobs) > limit else None
    cases = tuple(_case(job) for job in jobs[:limit])
    return Cases(cases=cases, next=more, counts=queue.counts(), webhooks=queue.notices())


def _case(job: Job) -> Case:
    waits = job.state in ("received", "storing") and not job.claimed
    values = {name: getattr(job, name) for name in Case.model_fields if name in Job.__dataclass_fields__}
    values |= {"version": job.version or "", "attempts": job.tries, "next": _time(job.due) if waits else None}
    return Case(**values | {"time": _time(job.queued), "changed": _time(job.changed)})


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(round(seconds, 3), UTC)


class _Server(ThreadingTCPServer):  # HTTPServer looks up the host name, which takes seconds without DNS
    allow_reuse_address = daemon_threads = True

    def __init__(self, settings: Status, queue: Queue) -> None:
        self.token, self.queue = settings.token, queue
        self.registry: CollectorRegistry = registry(queue)
        self._open: dict[Any, float] = {}
        super().__init__((settings.host, settings.port), _Handler)

    def verify_request(self, request: Any, client_address: object) -> bool:  # noqa: ARG002 - of the base class
        if len(self._open) >= _CONNECTIONS:
            return False
        self._open[request] = time.monotonic()
        return True

    def service_actions(self) -> None:
        for request, start in self._open.copy().items():
            if time.monotonic() - start > _DEADLINE:
                with suppress(OSError):
                    request.shutdown(SHUT_RDWR)

    def handle_error(self, request: Any, client_address: object) -> None:  # noqa: ARG002 - of the base class
        logger.warning("a request failed (%s)", type(sys.exception()).__name__)

    def shutdown_request(self, request: Any) -> None:
        self._open.pop(request, None)
        super().shutdown_request(request)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = 10  # seconds of a connection without data

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        if path == "/metrics":
            encode, media_type = choose_encoder(self.headers.get("Accept", ""))
            self._guarded(lambda: encode(self.server.registry), media_type)
        elif path == "/healthz":
            self._guarded(lambda: _json({"state": "live", "jobs": sum(self.server.queue.counts().values())}))
        elif path == "/cases" and self._is_allowed():
            self._guarded(lambda: page(self.server.queue, **_parameters(query)).model_dump_json().encode())
        elif path != "/cases":
            self._fail(HTTPStatus.NOT_FOUND, "Unknown path; see docs/pacs.md.")

    def do_POST(self) -> None:
        match = _RESEND.fullmatch(self.path)
        if match is None:
            self._fail(HTTPStatus.NOT_FOUND, "Unknown path; see docs/pacs.md.")
        elif self._is_allowed():
            self._guarded(lambda: self._resend(match[1]))

    def _resend(self, number: str | None) -> bytes:
        resent = self.server.queue.resend(None if number is None else int(number))
        if number is not None and not resent:
            raise PacsError(f"Case {number} has not failed, so it cannot be sent again.")
        return Resent(resent=resent).model_dump_json().encode()

    def _is_allowed(self) -> bool:
        """Return whether a request has the token; without one, whether it comes from no other web page."""
        if self.server.token is not None:
            credential = self.headers.get("Authorization", "").encode()
            if hmac.compare_digest(credential, f"Bearer {self.server.token}".encode()):
                return True
            self._fail(HTTPStatus.UNAUTHORIZED, "Missing or wrong token.")
        elif self.headers.get("Origin") is None and _LOCAL.fullmatch(self.headers.get("Host", "")):
            return True
        else:  # a page that a user of this machine visits could send it, also by DNS rebinding
            self._fail(HTTPStatus.FORBIDDEN, "Requests of web pages are not accepted.")
        return False

    def _guarded(self, respond: Callable[[], bytes], media_type: str = "application/json") -> None:
        try:
            body = respond()
        except ValidationError as error:
            self._fail(HTTPStatus.UNPROCESSABLE_ENTITY, f"{describe(error, values=False)}.")
        except PacsError as error:
            self._fail(HTTPStatus.CONFLICT, str(error))
        except (DatabaseError, OSError) as error:
            self._fail(HTTPStatus.SERVICE_UNAVAILABLE, f"The queue cannot be used ({type(error).__name__}).")
        else:
            self._send(HTTPStatus.OK, body, media_type)

    def _fail(self, status: HTTPStatus, detail: str) -> None:
        body = _json({"status": int(status), "title": status.phrase, "detail": detail})
        self._send(status, body, "application/problem+json")

    def _send(self, status: HTTPStatus, body: bytes, media_type: str) -> None:
        self.send_response(status)
        if status == HTTPStatus.UNAUTHORIZED:
            self.send_header("WWW-Authenticate", "Bearer")
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - name of the base class
        """Write no line for each request."""


def _json(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document).encode()


def _parameters(query: str) -> dict[str, Any]:
    return _Query.model_validate(dict(parse_qsl(query, keep_blank_values=True))).model_dump()

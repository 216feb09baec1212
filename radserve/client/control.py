"""Client of a server's control API, over its unix socket or the management port of the proxy."""

from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, Self, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from radserve.client import discovery, response
from radserve.client.response import Advice
from radserve.client.transport import Transport, http_client
from radserve.errors import InvalidResponseError
from radserve.schema.control import (
    AuditEntry,
    AuditLog,
    AuditVerification,
    ModelStatus,
    Registration,
    ServerStatus,
    VersionStatus,
)
from radserve.schema.deployment import Change, Deployment, DeploymentDiff
from radserve.schema.rollout import RolloutSpec, RolloutStatus
from radserve.validation_error import describe

_CHANGE_TIMEOUT: Final = 900.0  # seconds: a change may download and verify an archive and start workers
_READ_TIMEOUT: Final = 60.0
_RETRIES: Final = 2
_NO_CONTROL_API: Final = "No control API here; use the management port of the proxy in --url (8444 by default)."
_ADVICE: Final = Advice(
    timeout="Check the state before you repeat the command.",
    unreachable="Start the server, or check --url and --runtime.",
    statuses={
        401: "API key required: --key, or RADSERVE_KEY, with the role manage.",
        403: "The API key lacks the role manage.",
        404: _NO_CONTROL_API,
        405: _NO_CONTROL_API,
        502: "The server behind this address is not running. Start it, or wait until it is back.",
        503: "The server is not ready; see its log.",
        504: "The server behind this address did not respond in time; it may still be working.",
    },
)

M = TypeVar("M", bound=BaseModel)
_Query = Mapping[str, str | int | bool | None]


class Control:
    """Reads and changes the versions that a server serves; `where` names it in errors.

    Reading is repeated after transient failures; a change never is. Every method raises ClientErrors.
    """

    def __init__(self, http: httpx.Client, where: str) -> None:
        self._transport = Transport(http, where, _RETRIES, _ADVICE)

    @classmethod
    def over_socket(cls, path: Path) -> Self:
        """Connect to a control socket; access to it is permission to manage the server."""
        http = httpx.Client(
            transport=_SocketTransport(path),
            base_url="http://radserve",
            timeout=_timeout(_CHANGE_TIMEOUT),
            headers={"X-Actor": discovery.actor()},
            trust_env=False,
        )
        return cls(http, str(path))

    @classmethod
    def over_url(cls, url: str, key: str | None, cacert: Path | None) -> Self:
        """Connect to the management port of the proxy with a key of the role manage; `cacert` is a PEM file."""
        return cls(http_client(url, _CHANGE_TIMEOUT, key, cacert), url)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._transport.close()

    def overview(self) -> ServerStatus:
        """Return all models."""
        return self._get("/versions", ServerStatus)

    def model(self, name: str) -> ModelStatus:
        """Return one model."""
        return self._get(f"/versions/{name}", ModelStatus)

    def register(self, name: str, version: str, workers: int | None, reason: str | None) -> VersionStatus:
        """Download a version if necessary, verify and start it; it gets no traffic yet."""
        body = Registration(workers=workers, reason=reason).model_dump()
        return self._change("POST", f"/versions/{name}/{version}", VersionStatus, body)

    def scale(self, name: str, version: str, workers: int, reason: str | None) -> VersionStatus:
        """Change the number of workers of a version."""
        body = Registration(workers=workers, reason=reason).model_dump()
        return self._change("PATCH", f"/versions/{name}/{version}", VersionStatus, body)

    def unregister(self, name: str, version: str, reason: str | None, *, force: bool) -> None:
        """Stop serving a version; `force` is required if it has a share of the requests."""
        self._send("DELETE", f"/versions/{name}/{version}", query={"force": force or None, "reason": reason})

    def promote(self, name: str, version: str, reason: str | None) -> ModelStatus:
        """Send all requests to a version."""
        return self._change("POST", f"/versions/{name}/{version}/promote", ModelStatus, {"reason": reason})

    def release(self, name: str, version: str, reason: str | None) -> ModelStatus:
        """Lift the quarantine of a version that was rolled back."""
        return self._change("POST", f"/versions/{name}/{version}/release", ModelStatus, {"reason": reason})

    def rollback(self, name: str, reason: str | None) -> ModelStatus:
        """Send all requests to the previous version; aborts a running rollout."""
        return self._change("POST", f"/versions/{name}/rollback", ModelStatus, {"reason": reason})

    def deployment(self) -> Deployment:
        """Return the current deployment."""
        return self._get("/deployment", Deployment)

    def diff(self, deployment: Deployment) -> tuple[Change, ...]:
        """Return the changes that `apply` would make."""
        diff = self._send("POST", "/deployment/diff", deployment.model_dump(mode="json"), reading=True)
        return self._parse(diff, DeploymentDiff).changes

    def apply(self, deployment: Deployment, reason: str | None) -> tuple[Change, ...]:
        """Change the server to a deployment, and return the changes."""
        body = deployment.model_dump(mode="json")
        return self._change("PUT", "/deployment", DeploymentDiff, body, {"reason": reason}).changes

    def rollout(self, name: str) -> RolloutStatus:
        """Return the running rollout of a model, or the last one."""
        return self._get(f"/rollouts/{name}", RolloutStatus)

    def start(self, name: str, spec: RolloutSpec) -> RolloutStatus:
        """Start a rollout."""
        newer_keys = {"max_shift"} if spec.max_shift is None else set()  # servers of earlier releases reject them
        body = spec.model_dump(mode="json", exclude=newer_keys)
        return self._change("POST", f"/rollouts/{name}", RolloutStatus, body)

    def abort(self, name: str, reason: str | None) -> RolloutStatus:
        """Abort a rollout."""
        return self._change("DELETE", f"/rollouts/{name}", RolloutStatus, query={"reason": reason})

    def audit(self, limit: int) -> tuple[AuditEntry, ...]:
        """Return the last entries of the audit log, the newest at the end."""
        return self._get("/audit", AuditLog, {"limit": limit}).entries

    def verify_audit(self, head: str | None) -> AuditVerification:
        """Verify the audit log, and that it has an entry with the digest `head`."""
        return self._get("/audit/verification", AuditVerification, {"head": head})

    def _get(self, path: str, model: type[M], query: _Query | None = None) -> M:
        return self._parse(self._send("GET", path, query=query, reading=True), model)

    def _change(self, method: str, path: str, model: type[M], body: Any = None, query: _Query | None = None) -> M:
        return self._parse(self._send(method, path, body, query=query), model)

    def _send(
        self, method: str, path: str, body: Any = None, *, query: _Query | None = None, reading: bool = False
    ) -> httpx.Response:
        params = {key: value for key, value in (query or {}).items() if value is not None}
        timeout = _timeout(_READ_TIMEOUT if reading else _CHANGE_TIMEOUT)
        reply = self._transport.request(method, path, repeat=reading, json=body, params=params or None, timeout=timeout)
        if reply.status_code >= HTTPStatus.BAD_REQUEST:
            raise response.problem(reply, _ADVICE)
        if not reply.is_success:
            raise InvalidResponseError(
                f"{self._transport.where} answered {reply.status_code}, which a control API never does; check --url."
            )
        return reply

    def _parse(self, reply: httpx.Response, model: type[M]) -> M:
        try:
            return model.model_validate(response.parse(reply))
        except ValidationError as error:
            call = f"{reply.request.method} {reply.request.url.path}"
            raise InvalidResponseError(
                f"{self._transport.where}: unexpected response to {call} ({describe(error)[:300]}). "
                "Do client and server have the same release?"
            ) from error


class _SocketTransport(httpx.HTTPTransport):
    """Unix socket; httpcore would leave it open if no process listens on it."""

    def __init__(self, path: Path) -> None:
        super().__init__(uds=str(path), verify=False)  # no TLS, so no certificate authorities to load
        self._path = path

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request if a process listens on the socket."""
        try:
            discovery.require_listening(self._path)
        except OSError as error:
            raise httpx.ConnectError(str(error), request=request) from error
        return super().handle_request(request)


def _timeout(read: float) -> httpx.Timeout:
    return httpx.Timeout(connect=5.0, read=read, write=60.0, pool=60.0)

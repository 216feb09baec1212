"""A client of a server's control API: over its unix socket, or through a front's management port."""

from __future__ import annotations

import time
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, Self, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from radserve.client import discovery, response, retry, transport
from radserve.errors import ClientError, InvalidResponseError, ResponseTimeoutError, UnreachableError
from radserve.schema.control import AuditEntry, AuditLog, ModelStatus, ServerStatus, VersionStatus
from radserve.schema.deployment import Change, Deployment, DeploymentDiff
from radserve.schema.rollout import RolloutSpec, RolloutStatus

_CHANGING: Final = 900.0
"""Seconds that a change may take: an archive is pulled and verified, workers start."""
_LOOKING: Final = 60.0
_RETRIES: Final = 2

_HINTS: Final = {
    401: "The server wants a key: --key, or RADSERVE_KEY, with the role manage.",
    403: "The key that was sent has not the role manage.",
    404: "There is no control API here; --url names the front's management port, which is 8444 if not chosen.",
    405: "There is no control API here; --url names the front's management port, which is 8444 if not chosen.",
    502: "The server behind this address is not running; start it, or wait until it is back.",
    503: "The server is not ready; its log says why.",
    504: "The server behind this address did not answer in time; it may still be working.",
}

_Value = TypeVar("_Value", bound=BaseModel)
_Query = Mapping[str, str | int | bool | None]


class Control:
    """A server whose versions are looked at and changed.

    Reading is repeated where nobody answers for a moment; a change never is.

    Parameters
    ----------
    http
        Has the base URL, and says who asks.
    where
        Names the server in errors.

    Raises
    ------
    Refused, ServerFailed
        By every method: the server says why not.
    Unreachable, TimedOut, NotAnAnswer
        By every method: nobody answers, or not as documented.
    """

    def __init__(self, http: httpx.Client, where: str) -> None:
        self._http = http
        self._where = where

    @classmethod
    def over_socket(cls, path: Path) -> Self:
        """Use a server's control socket; who may open it manages the server."""
        http = httpx.Client(
            transport=_Socket(path),
            base_url="http://radserve",
            timeout=_timeout(_CHANGING),
            headers={"X-Actor": discovery.actor()},
            trust_env=False,
        )
        return cls(http, str(path))

    @classmethod
    def over_url(cls, url: str, key: str | None, cacert: Path | None) -> Self:
        """Use a front's management port, with a key that has the role manage.

        Parameters
        ----------
        cacert
            PEM file of the authority that signed the front's certificate, where the system does not know it.

        Raises
        ------
        WrongCall
            If a parameter cannot be what it should be.
        """
        base = transport.base(url)
        http = httpx.Client(
            base_url=base,
            timeout=_timeout(_CHANGING),
            headers=transport.authorization(key),
            verify=transport.trusted(cacert) if cacert else True,
            trust_env=not transport.is_loopback(base),
        )
        return cls(http, url)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def overview(self) -> ServerStatus:
        """Return all models."""
        return self._get("/versions", ServerStatus)

    def model(self, name: str) -> ModelStatus:
        """Return one model."""
        return self._get(f"/versions/{name}", ModelStatus)

    def register(self, name: str, version: str, workers: int | None, reason: str | None) -> VersionStatus:
        """Pull a version if it is missing, verify it and start it; it gets no traffic yet."""
        body = {"workers": workers, "reason": reason}
        return self._read(self._ask("POST", f"/versions/{name}/{version}", body), VersionStatus)

    def scale(self, name: str, version: str, workers: int, reason: str | None) -> VersionStatus:
        """Give a version more workers, or fewer."""
        body = {"workers": workers, "reason": reason}
        return self._read(self._ask("PATCH", f"/versions/{name}/{version}", body), VersionStatus)

    def unregister(self, name: str, version: str, reason: str | None, *, force: bool) -> None:
        """Stop serving a version; with `force` also one that has a share."""
        self._ask("DELETE", f"/versions/{name}/{version}", query={"force": force or None, "reason": reason})

    def promote(self, name: str, version: str, reason: str | None) -> ModelStatus:
        """Give a version all requests."""
        return self._read(self._ask("POST", f"/versions/{name}/{version}/promote", {"reason": reason}), ModelStatus)

    def rollback(self, name: str, reason: str | None) -> ModelStatus:
        """Give all requests back to the version before; a rollout that runs is given up."""
        return self._read(self._ask("POST", f"/versions/{name}/rollback", {"reason": reason}), ModelStatus)

    def deployment(self) -> Deployment:
        """Return what the server has, as the file that would make it so."""
        return self._get("/deployment", Deployment)

    def diff(self, want: Deployment) -> tuple[Change, ...]:
        """Return what `apply` would do."""
        answer = self._ask("POST", "/deployment/diff", want.model_dump(mode="json"), reading=True)
        return self._read(answer, DeploymentDiff).changes

    def apply(self, want: Deployment, reason: str | None) -> tuple[Change, ...]:
        """Make the server have that, and return what was done."""
        answer = self._ask("PUT", "/deployment", want.model_dump(mode="json"), query={"reason": reason})
        return self._read(answer, DeploymentDiff).changes

    def rollout(self, name: str) -> RolloutStatus:
        """Return the rollout of a model that runs, or the last one."""
        return self._get(f"/rollouts/{name}", RolloutStatus)

    def start(self, name: str, spec: RolloutSpec) -> RolloutStatus:
        """Begin a rollout."""
        return self._read(self._ask("POST", f"/rollouts/{name}", spec.model_dump(mode="json")), RolloutStatus)

    def abort(self, name: str, reason: str | None) -> RolloutStatus:
        """Give a rollout up."""
        return self._read(self._ask("DELETE", f"/rollouts/{name}", query={"reason": reason}), RolloutStatus)

    def audit(self, limit: int) -> tuple[AuditEntry, ...]:
        """Return the last entries of the audit log, the newest last."""
        return self._get("/audit", AuditLog, {"limit": limit}).entries

    def _get(self, path: str, kind: type[_Value], query: _Query | None = None) -> _Value:
        return self._read(self._ask("GET", path, query=query, reading=True), kind)

    def _ask(
        self, method: str, path: str, body: Any = None, *, query: _Query | None = None, reading: bool = False
    ) -> httpx.Response:
        """Ask, and again if it only reads and nobody answers for a moment."""
        known = {key: value for key, value in (query or {}).items() if value is not None}
        timeout = _timeout(_LOOKING if reading else _CHANGING)
        attempt = 0
        while True:
            left = reading and attempt < _RETRIES
            wanted = None
            try:
                answer = self._http.request(method, path, json=body, params=known or None, timeout=timeout)
            except httpx.HTTPError as error:
                if not (left and retry.safe(error)):
                    raise _failure(error, self._where) from error
            else:
                wanted = retry.after(answer.headers.get("Retry-After"))
                if not (left and answer.status_code in retry.STATUSES and (wanted or 0) <= retry.LONGEST):
                    return self._accepted(answer)
            time.sleep(retry.pause(attempt, wanted))
            attempt += 1

    def _accepted(self, answer: httpx.Response) -> httpx.Response:
        if answer.is_success:
            return answer
        if answer.status_code >= HTTPStatus.BAD_REQUEST:
            raise response.problem(answer, _HINTS)
        raise InvalidResponseError(
            f"{self._where} answered {answer.status_code}, which no control API does; check --url."
        )

    def _read(self, answer: httpx.Response, kind: type[_Value]) -> _Value:
        document = response.parse(answer)
        try:
            return kind.model_validate(document)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"]) or "the whole"
            raise InvalidResponseError(
                f"{self._where} answered {answer.request.method} {answer.request.url.path} with what this radserve "
                f"does not understand ({where}: {first['msg']}); are both of the same release?"
            ) from error


class _Socket(httpx.HTTPTransport):
    """A unix socket; httpcore would leave its end open where nobody listens at the other."""

    def __init__(self, path: Path) -> None:
        super().__init__(uds=str(path), verify=False)  # no TLS, so no authorities to read
        self._path = path

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request, if somebody listens."""
        try:
            discovery.require_listening(self._path)
        except OSError as error:
            raise httpx.ConnectError(str(error), request=request) from error
        return super().handle_request(request)


def _failure(error: httpx.HTTPError, where: str) -> ClientError:
    reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    match error:
        case httpx.ReadTimeout() | httpx.WriteTimeout() | httpx.PoolTimeout():
            return ResponseTimeoutError(
                f"{where} did not answer in time ({reason}); it may still be working. Look before you ask again."
            )
        case httpx.ConnectError() if "CERTIFICATE_VERIFY_FAILED" in str(error):
            return UnreachableError(
                f"{where} has a certificate that is not trusted ({reason}); name its authority with --cacert FILE, "
                "and the host as the certificate does."
            )
        case httpx.ConnectError() | httpx.ConnectTimeout() | httpx.ProxyError():
            return UnreachableError(
                f"Nobody answers at {where} ({reason}); start the server, or check --url and --runtime."
            )
        case _:
            return InvalidResponseError(
                f"The connection to {where} broke off before the whole answer was there ({reason})."
            )


def _timeout(read: float) -> httpx.Timeout:
    return httpx.Timeout(connect=5.0, read=read, write=60.0, pool=60.0)

"""Checks of S3 that moto lacks: the policy of a presigned POST and its signature.

https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-HTTPPOSTConstructPolicy.html
"""

import base64
import hashlib
import hmac
import io
import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

from werkzeug.formparser import parse_form_data
from werkzeug.wrappers import Response

Environ = dict[str, Any]
Start = Callable[..., Any]

SECRET = "test"
_UNCHECKED = {"policy", "x-amz-signature", "file"}
_ERROR = "<Error><Code>{code}</Code><Message>{message}</Message></Error>"


class RejectedFormError(Exception):
    """S3 would reject this form."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


class Posts:
    """Checks forms before moto receives them."""

    def __init__(self, app: Any) -> None:
        self._app = app

    def __call__(self, environ: Environ, start: Start) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] != "POST" or not environ.get("CONTENT_TYPE", "").startswith("multipart/form-data"):
            return self._app(environ, start)  # type: ignore[no-any-return]
        body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
        try:
            check(environ | {"wsgi.input": io.BytesIO(body)})
        except RejectedFormError as error:
            text = _ERROR.format(code=error.code, message=error)
            return Response(text, error.status, content_type="application/xml")(environ, start)
        return self._app(environ | {"wsgi.input": io.BytesIO(body)}, start)  # type: ignore[no-any-return]


def check(environ: Environ) -> None:
    """Check a form against its policy."""
    _, form, files = parse_form_data(environ)
    fields = {key.lower(): value for key, value in form.items()}
    if set(files) != {"file"}:
        raise RejectedFormError(400, "InvalidArgument", "POST requires exactly one file upload per request.")
    if "policy" not in fields:
        raise RejectedFormError(403, "AccessDenied", "Access Denied")
    _check_signature(fields)
    policy = json.loads(base64.b64decode(fields["policy"]))
    if datetime.fromisoformat(policy["expiration"]) < datetime.now(UTC):
        raise RejectedFormError(403, "AccessDenied", "Invalid according to Policy: Policy expired.")
    size = len(files["file"].read())
    covered = {"bucket"}
    for condition in policy["conditions"]:
        covered.add(_check_condition(condition, fields | {"bucket": environ["PATH_INFO"].strip("/")}, size))
    if extra := set(fields) - covered - _UNCHECKED:
        raise RejectedFormError(403, "AccessDenied", f"Invalid according to Policy: Extra input fields: {extra}")


def _check_signature(fields: dict[str, str]) -> None:
    key = f"AWS4{SECRET}".encode()
    for part in fields["x-amz-credential"].split("/")[1:]:
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    expected = hmac.new(key, fields["policy"].encode(), hashlib.sha256).hexdigest()
    if not hmac.compare_digest(expected, fields["x-amz-signature"]):
        raise RejectedFormError(403, "SignatureDoesNotMatch", "The signature does not match.")


def _check_condition(condition: Any, fields: dict[str, str], size: int) -> str:
    """Check one condition and return its field."""
    if isinstance(condition, dict):
        ((name, value),) = condition.items()
        condition = ["eq", f"${name}", value]
    kind, first, second = condition
    if kind == "content-length-range":
        if size > second:
            raise RejectedFormError(400, "EntityTooLarge", "Your proposed upload exceeds the maximum allowed size")
        if size < first:
            raise RejectedFormError(
                400, "EntityTooSmall", "Your proposed upload is smaller than the minimum allowed size"
            )
        return ""
    name = str(first).removeprefix("$").lower()
    sent = fields.get(name, "")
    if not (sent == second if kind == "eq" else sent.startswith(second)):
        raise RejectedFormError(
            403, "AccessDenied", f"Invalid according to Policy: Policy Condition failed: {condition}"
        )
    return name

"""Lambda events as documented by AWS."""

import base64
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qs, quote, urlencode

Event = dict[str, Any]
Builder = Callable[..., Event]

_ADDRESS = "192.0.2.1"
_TEXT = ("application/json", "text/")


def _body(body: bytes, headers: Mapping[str, str]) -> dict[str, Any]:
    media_type = headers.get("Content-Type", "")
    if not body:
        return {"body": None, "isBase64Encoded": False}
    if media_type.startswith(_TEXT):
        return {"body": body.decode(), "isBase64Encoded": False}
    return {"body": base64.b64encode(body).decode(), "isBase64Encoded": True}


def rest(
    method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None, query: str = "", base: str = ""
) -> Event:
    """REST API, payload 1.0; only requestContext.path holds the stage, `base` is a custom domain's mapping.

    docs.aws.amazon.com/apigateway/latest/developerguide/set-up-lambda-proxy-integrations.html
    """
    sent = {"Host": "abc.execute-api.eu-central-1.amazonaws.com", "X-Forwarded-Port": "443"} | dict(headers or {})
    several = parse_qs(query)
    return {
        "resource": "/{proxy+}",
        "path": base + path,
        "httpMethod": method,
        "headers": sent,
        "multiValueHeaders": {name: [value] for name, value in sent.items()},
        "queryStringParameters": {name: values[-1] for name, values in several.items()} or None,
        "multiValueQueryStringParameters": several or None,
        "pathParameters": {"proxy": path[1:]},
        "stageVariables": None,
        "requestContext": {
            "accountId": "123456789012",
            "apiId": "abc",
            "domainName": "abc.execute-api.eu-central-1.amazonaws.com",
            "httpMethod": method,
            "identity": {"sourceIp": _ADDRESS, "userAgent": "curl"},
            "path": f"/prod{path}",
            "protocol": "HTTP/1.1",
            "requestId": "c6af9ac6-7b61-11e6-9a41-93e8deadbeef",
            "resourcePath": "/{proxy+}",
            "stage": "prod",
        },
        **_body(body, dict(headers or {})),
    }


def http(
    method: str,
    path: str,
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
    query: str = "",
    stage: str = "$default",
    route: str = "$default",
) -> Event:
    """HTTP API, payload 2.0; the path starts with a named stage.

    docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html
    """
    whole = path if stage == "$default" else f"/{stage}{path}"
    event = {
        "version": "2.0",
        "routeKey": route,
        "rawPath": quote(whole),
        "rawQueryString": query,
        "headers": {"host": "abc.execute-api.eu-central-1.amazonaws.com", "x-forwarded-port": "443"}
        | {name.lower(): value for name, value in (headers or {}).items()},
        "requestContext": {
            "accountId": "123456789012",
            "apiId": "abc",
            "domainName": "abc.execute-api.eu-central-1.amazonaws.com",
            "http": {
                "method": method,
                "path": whole,
                "protocol": "HTTP/1.1",
                "sourceIp": _ADDRESS,
                "userAgent": "curl",
            },
            "requestId": "id",
            "routeKey": route,
            "stage": stage,
            "time": "12/Mar/2020:19:03:58 +0000",
            "timeEpoch": 1583348638390,
        },
        **_body(body, dict(headers or {})),
    }
    if route != "$default":
        event["pathParameters"] = {"proxy": path[1:]}
    return {key: value for key, value in event.items() if value is not None}


def http_v1(
    method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None, query: str = ""
) -> Event:
    """HTTP API, payload 1.0: like a REST API's event, with a version and the stage in the path."""
    event = rest(method, path, body, headers, query, base="/prod") | {"version": "1.0"}
    return event | {"resource": "$default", "pathParameters": None}


def url(method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None, query: str = "") -> Event:
    """Function URL: payload 2.0 without stages; docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html."""
    event = http(method, path, body, headers, query)
    domain = "abcdefghijklmnopqrstuvwxyz.lambda-url.eu-central-1.on.aws"
    event["headers"]["host"] = event["requestContext"]["domainName"] = domain
    return event


def alb(method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None, query: str = "") -> Event:
    """Load balancer; docs.aws.amazon.com/lambda/latest/dg/services-alb.html."""
    sent = {"host": "radserve-1234567890.eu-central-1.elb.amazonaws.com", "x-forwarded-for": _ADDRESS}
    group = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:targetgroup/radserve/49e9d65c45c6791a"
    return {
        "requestContext": {"elb": {"targetGroupArn": group}},
        "httpMethod": method,
        "path": path,
        # Encoded: a load balancer does not decode them.
        "queryStringParameters": dict(part.split("=", 1) for part in query.split("&") if part),
        "headers": sent | {name.lower(): value for name, value in (headers or {}).items()},
        **(_body(body, dict(headers or {})) | ({} if body else {"body": ""})),
    }


def alb_multi(
    method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None, query: str = ""
) -> Event:
    """Load balancer with multi-value headers."""
    event = alb(method, path, body, headers)
    event["multiValueHeaders"] = {name: [value] for name, value in event.pop("headers").items()}
    del event["queryStringParameters"]
    raw = {name: [quote(value) for value in values] for name, values in parse_qs(query).items()}
    event["multiValueQueryStringParameters"] = raw
    return event


SHAPES: dict[str, Builder] = {
    "rest": rest,
    "http": http,
    "http_v1": http_v1,
    "url": url,
    "alb": alb,
    "alb_multi": alb_multi,
}


def query(**parameters: str) -> str:
    """Return a query string."""
    return urlencode(parameters)


def content(answer: Mapping[str, Any]) -> bytes:
    """Return the response body."""
    body = answer.get("body") or ""
    return base64.b64decode(body) if answer["isBase64Encoded"] else str(body).encode()


def header(answer: Mapping[str, Any], name: str) -> str:
    """Return a header field of the response."""
    single = {key.lower(): value for key, value in (answer.get("headers") or {}).items()}
    several = {key.lower(): value[0] for key, value in (answer.get("multiValueHeaders") or {}).items()}
    return str((single | several)[name])

"""Authentication by tokens."""

import asyncio
import base64
import json
import time
from collections.abc import Callable, Mapping
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from gateway.access import Caller
from gateway.access.issuer import DISCOVERY, TokenIssuer
from gateway.access.tokens import TokenVerifier
from gateway.errors import NotAuthenticatedError, UnavailableError
from radserve.auth.api_keys import Role

URL = "https://issuer.example/realms/hospital"
RSA = rsa.generate_private_key(65537, 2048)
OTHER = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()


def public(key: Any, identity: str) -> dict[str, Any]:
    """Return the public JSON Web Key of a private key."""
    kinds: Mapping[type, Any] = {
        rsa.RSAPrivateKey: jwt.algorithms.RSAAlgorithm,
        ec.EllipticCurvePrivateKey: jwt.algorithms.ECAlgorithm,
        ed25519.Ed25519PrivateKey: jwt.algorithms.OKPAlgorithm,
    }
    algorithm = next(value for kind, value in kinds.items() if isinstance(key, kind))
    document: dict[str, Any] = json.loads(algorithm.to_jwk(key.public_key()))
    return document | {"kid": identity, "use": "sig"}


class Server:
    """Web server of an issuer."""

    def __init__(self, **keys: Any) -> None:
        self.keys = [public(key, name) for name, key in keys.items()]
        self.configuration: dict[str, Any] = {"issuer": URL, "jwks_uri": "https://issuer.example/keys"}
        self.status = 200
        self.requests: list[str] = []

    def respond(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request.url.path)
        result = self.configuration if request.url.path.endswith(DISCOVERY) else {"keys": self.keys}
        return httpx.Response(self.status, json=result)


def tokens(server: Server, claim: str = "roles", prefix: str = "radserve:") -> TokenVerifier:
    return TokenVerifier(TokenIssuer(URL, httpx.MockTransport(server.respond)), "radserve", claim, prefix)


def claims(**changed: Any) -> dict[str, Any]:
    now = int(time.time())
    defaults = {
        "iss": URL,
        "aud": "radserve",
        "sub": "dr-who",
        "exp": now + 60,
        "iat": now,
        "roles": ["radserve:predict"],
    }
    return {key: value for key, value in (defaults | changed).items() if value is not None}


def sign(key: Any = RSA, algorithm: str = "RS256", kid: str | None = "a", **changed: Any) -> str:
    return jwt.encode(claims(**changed), key, algorithm, headers={} if kid is None else {"kid": kid})


def identify(verifier: TokenVerifier, token: str) -> Caller:
    return asyncio.run(verifier.verify(token))


@pytest.mark.parametrize(("key", "algorithm"), [(RSA, "RS256"), (RSA, "PS384"), (EC, "ES256"), (ED, "EdDSA")])
def test_token_identifies_subject_and_roles(key: Any, algorithm: str) -> None:
    server = Server(a=key)
    known = tokens(server)
    assert identify(known, sign(key, algorithm)) == Caller("dr-who", frozenset({Role.PREDICT}))
    identify(known, sign(key, algorithm))
    assert len(server.requests) == 2  # configuration and keys


@pytest.mark.parametrize(
    ("claim", "changed", "roles"),
    [
        ("roles", {"roles": ["radserve:read", "radserve:manage", "radserve:other", "predict", 7]}, {"read", "manage"}),
        ("roles", {"roles": "radserve:read other"}, {"read"}),
        ("realm_access.roles", {"realm_access": {"roles": ["radserve:read"]}}, {"read"}),
        ("https://x.example/roles", {"https://x.example/roles": ["radserve:read"]}, {"read"}),
        ("realm_access.roles", {"realm_access": "radserve:read"}, set()),
        ("roles", {"roles": None}, set()),
        ("roles", {"roles": {"radserve:read": 1}}, set()),
    ],
)
def test_roles_come_from_configured_claim(claim: str, changed: Any, roles: set[str]) -> None:
    assert identify(tokens(Server(a=RSA), claim), sign(**changed)).roles == {Role(role) for role in roles}


def unsigned() -> str:
    return jwt.encode(claims(), None, "none", headers={"kid": "a"})  # type: ignore[arg-type]


def signed_with_the_public_key() -> str:
    pem = RSA.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    head, body = ({"alg": "HS256", "typ": "JWT", "kid": "a"}, claims())
    text = ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in (head, body))
    mac = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256)
    return text + "." + base64.urlsafe_b64encode(mac.sign(text.encode(), pem)).rstrip(b"=").decode()


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: sign(exp=int(time.time()) - 60), "expired"),
        (lambda: sign(nbf=int(time.time()) + 90), "not valid yet"),
        (lambda: sign(aud="another"), "another audience"),
        (lambda: sign(iss="https://evil.example"), "another issuer"),
        (lambda: sign(exp=None), "lacks"),
        (lambda: sign(aud=None), "lacks"),
        (lambda: sign(sub=None), "lacks"),
        (lambda: sign(sub=""), "not a valid name"),
        (lambda: sign(sub="a\nb"), "not a valid name"),
        (lambda: sign(OTHER), "signature"),
        (lambda: sign(OTHER, kid="unknown"), "unknown to the issuer"),
        (lambda: sign(EC, "ES256"), "not supported"),
        (lambda: sign()[:-4] + "AAAA", "signature"),
        (unsigned, "not supported"),
        (signed_with_the_public_key, "not supported"),
        (lambda: "no.token.atall", "cannot be verified"),
        (lambda: "x" * 20_000, "too long"),
    ],
)
def test_invalid_token_is_rejected(make: Callable[[], str], reason: str) -> None:
    token = make()
    with pytest.raises(NotAuthenticatedError, match=reason) as caught:
        identify(tokens(Server(a=RSA)), token)
    assert token not in str(caught.value)


def test_new_issuer_key_is_fetched_and_unknown_ids_are_throttled(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(a=RSA)
    known = tokens(server)
    identify(known, sign())
    server.keys = [public(OTHER, "b")]
    monkeypatch.setattr("gateway.access.issuer._LOOKUP_INTERVAL", 0.0)
    assert identify(known, sign(OTHER, kid="b")).name == "dr-who"
    with pytest.raises(NotAuthenticatedError):
        identify(known, sign())  # signed with the withdrawn key
    monkeypatch.setattr("gateway.access.issuer._LOOKUP_INTERVAL", 30.0)
    before = len(server.requests)
    for identity in range(20):
        with pytest.raises(NotAuthenticatedError):
            identify(known, sign(kid=str(identity)))
    assert len(server.requests) == before


def test_expired_issuer_keys_are_refetched_or_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(a=RSA)
    known = tokens(server)
    identify(known, sign())
    monkeypatch.setattr("gateway.access.issuer._MAX_AGE", 0.0)
    monkeypatch.setattr("gateway.access.issuer._LOOKUP_INTERVAL", 0.0)
    server.status = 503
    assert identify(known, sign()).name == "dr-who"
    server.status, server.keys = 200, []
    with pytest.raises((NotAuthenticatedError, UnavailableError)):
        identify(known, sign())


@pytest.mark.parametrize(
    "broken",
    [
        {"status": 500},
        {"configuration": {"issuer": "https://evil.example", "jwks_uri": "https://issuer.example/keys"}},
        {"configuration": {"issuer": URL, "jwks_uri": "http://issuer.example/keys"}},
        {"configuration": {"issuer": URL}},
        {"configuration": []},
        {"keys": None},
        {"keys": [{"kty": "oct", "k": "AAAA", "kid": "a"}]},
    ],
)
def test_issuer_without_keys_returns_503(broken: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    server = Server(a=RSA)
    for name, value in broken.items():
        setattr(server, name, value)
    with pytest.raises(UnavailableError, match="signing keys"):
        identify(tokens(server), sign())


def test_concurrent_requests_fetch_issuer_keys_once() -> None:
    server = Server(a=RSA)
    known = tokens(server)

    async def ask() -> None:
        token = sign()
        assert len(await asyncio.gather(*(known.verify(token) for _ in range(20)))) == 20

    asyncio.run(ask())
    assert len(server.requests) == 2


def test_token_without_key_id_uses_only_key() -> None:
    assert identify(tokens(Server(a=RSA)), sign(kid=None)).name == "dr-who"
    with pytest.raises(NotAuthenticatedError):
        identify(tokens(Server(a=RSA, b=OTHER)), sign(kid=None))

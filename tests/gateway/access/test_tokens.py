"""TokenAuthenticator of an issuer: whose are taken, and whose are not."""

from __future__ import annotations

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
from gateway.access.tokens import TokenAuthenticator
from gateway.errors import NotAuthenticatedError, UnavailableError
from radserve.auth.api_keys import Role

URL = "https://issuer.example/realms/hospital"
RSA = rsa.generate_private_key(65537, 2048)
OTHER = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()


def public(key: Any, identity: str) -> dict[str, Any]:
    """Return what an issuer publishes of a key."""
    kinds: Mapping[type, Any] = {
        rsa.RSAPrivateKey: jwt.algorithms.RSAAlgorithm,
        ec.EllipticCurvePrivateKey: jwt.algorithms.ECAlgorithm,
        ed25519.Ed25519PrivateKey: jwt.algorithms.OKPAlgorithm,
    }
    algorithm = next(value for kind, value in kinds.items() if isinstance(key, kind))
    found: dict[str, Any] = json.loads(algorithm.to_jwk(key.public_key()))
    return found | {"kid": identity, "use": "sig"}


class Server:
    """An issuer's web server."""

    def __init__(self, **keys: Any) -> None:
        self.keys = [public(key, name) for name, key in keys.items()]
        self.about: dict[str, Any] = {"issuer": URL, "jwks_uri": "https://issuer.example/keys"}
        self.status = 200
        self.asked: list[str] = []

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request.url.path)
        found = self.about if request.url.path.endswith(DISCOVERY) else {"keys": self.keys}
        return httpx.Response(self.status, json=found)


def tokens(server: Server, claim: str = "roles", prefix: str = "radserve:") -> TokenAuthenticator:
    return TokenAuthenticator(TokenIssuer(URL, httpx.MockTransport(server.answer)), URL, "radserve", claim, prefix)


def claims(**changed: Any) -> dict[str, Any]:
    now = int(time.time())
    found = {"iss": URL, "aud": "radserve", "sub": "dr-who", "exp": now + 60, "iat": now, "roles": ["radserve:predict"]}
    return {key: value for key, value in (found | changed).items() if value is not None}


def sign(key: Any = RSA, algorithm: str = "RS256", kid: str | None = "a", **changed: Any) -> str:
    return jwt.encode(claims(**changed), key, algorithm, headers={} if kid is None else {"kid": kid})


def identify(found: TokenAuthenticator, token: str) -> Caller:
    return asyncio.run(found.identify({"authorization": f"Bearer {token}"}))


@pytest.mark.parametrize(("key", "algorithm"), [(RSA, "RS256"), (RSA, "PS384"), (EC, "ES256"), (ED, "EdDSA")])
def test_a_token_is_taken_with_its_subject_and_roles(key: Any, algorithm: str) -> None:
    server = Server(a=key)
    known = tokens(server)
    assert identify(known, sign(key, algorithm)) == Caller("dr-who", frozenset({Role.PREDICT}))
    identify(known, sign(key, algorithm))
    assert len(server.asked) == 2  # once for what it says of itself, once for its keys


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
def test_roles_come_from_the_claim_that_the_operator_named(claim: str, changed: Any, roles: set[str]) -> None:
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
        (lambda: sign(sub=""), "no name"),
        (lambda: sign(sub="a\nb"), "no name"),
        (lambda: sign(OTHER), "signature"),
        (lambda: sign(OTHER, kid="unknown"), "does not sign with its key"),
        (lambda: sign(EC, "ES256"), "a way that is not taken"),
        (lambda: sign()[:-4] + "AAAA", "signature"),
        (unsigned, "a way that is not taken"),
        (signed_with_the_public_key, "a way that is not taken"),
        (lambda: "no.token.atall", "cannot be verified"),
        (lambda: "x" * 20_000, "too long"),
    ],
)
def test_other_tokens_are_not(make: Callable[[], str], reason: str) -> None:
    token = make()
    with pytest.raises(NotAuthenticatedError, match=reason) as caught:
        identify(tokens(Server(a=RSA)), token)
    assert token not in str(caught.value)


def test_a_new_key_of_the_issuer_is_found_but_inventing_ids_asks_it_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(a=RSA)
    known = tokens(server)
    identify(known, sign())
    server.keys = [public(OTHER, "b")]
    monkeypatch.setattr("gateway.access.issuer._LOOKUP_INTERVAL", 0.0)
    assert identify(known, sign(OTHER, kid="b")).name == "dr-who"
    with pytest.raises(NotAuthenticatedError):
        identify(known, sign())  # the old one is gone
    monkeypatch.setattr("gateway.access.issuer._LOOKUP_INTERVAL", 30.0)
    before = len(server.asked)
    for identity in range(20):
        with pytest.raises(NotAuthenticatedError):
            identify(known, sign(kid=str(identity)))
    assert len(server.asked) == before


def test_keys_are_asked_for_anew_in_time_and_stay_if_the_issuer_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
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
        {"about": {"issuer": "https://evil.example", "jwks_uri": "https://issuer.example/keys"}},
        {"about": {"issuer": URL, "jwks_uri": "http://issuer.example/keys"}},
        {"about": {"issuer": URL}},
        {"about": []},
        {"keys": None},
        {"keys": [{"kty": "oct", "k": "AAAA", "kid": "a"}]},
    ],
)
def test_an_issuer_that_does_not_say_its_keys_is_503(broken: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    server = Server(a=RSA)
    for name, value in broken.items():
        setattr(server, name, value)
    with pytest.raises(UnavailableError, match="issuer of tokens"):
        identify(tokens(server), sign())


def test_many_requests_at_once_ask_the_issuer_once() -> None:
    server = Server(a=RSA)
    known = tokens(server)

    async def ask() -> None:
        headers = {"authorization": f"Bearer {sign()}"}
        assert len(await asyncio.gather(*(known.identify(headers) for _ in range(20)))) == 20

    asyncio.run(ask())
    assert len(server.asked) == 2


def test_a_token_without_the_id_of_its_key_is_taken_if_there_is_one_key() -> None:
    assert identify(tokens(Server(a=RSA)), sign(kid=None)).name == "dr-who"
    with pytest.raises(NotAuthenticatedError):
        identify(tokens(Server(a=RSA, b=OTHER)), sign(kid=None))

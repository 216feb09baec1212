"""Bearer tokens of an OpenID Connect issuer (JWT, RFC 7519; checked as RFC 8725 says)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import jwt

from gateway.access import Caller
from gateway.access.issuer import Issuer
from gateway.errors import NotAuthenticatedError
from radserve.auth import endpoint
from radserve.auth.api_keys import Role

ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""Signatures by a key that only the issuer has; neither `none` nor HMAC, whose key would be the public one."""
_FAMILIES: Final = {"RSA": ("RS", "PS"), "EC": ("ES",), "OKP": ("Ed",)}
_LEEWAY: Final = 30.0
"""Seconds by which two clocks may differ."""
_LONGEST: Final = 16 * 1024
_REASONS: Final[Sequence[tuple[type[jwt.PyJWTError], str]]] = (
    (jwt.ExpiredSignatureError, "it has expired"),
    (jwt.ImmatureSignatureError, "it is not valid yet"),
    (jwt.InvalidAudienceError, "it is for another audience"),
    (jwt.InvalidIssuerError, "it is from another issuer"),
    (jwt.MissingRequiredClaimError, "it lacks one of exp, iss, aud and sub"),
    (jwt.InvalidSignatureError, "its signature is wrong"),
)


class Tokens:
    """Knows callers by their tokens; the subject (`sub`) is the caller's name.

    Parameters
    ----------
    claim
        Lists roles: the name of a claim, or a path of names with dots in it (`realm_access.roles`).
    prefix
        Stands before a role in the claim; what has another one is no role here.
    """

    def __init__(self, issuer: Issuer, url: str, audience: str, claim: str, prefix: str) -> None:
        self._issuer = issuer
        self._url = url
        self._audience = audience
        self._claim = claim
        self._prefix = prefix

    async def identify(self, headers: Mapping[str, str]) -> Caller:
        """Return the caller; raises NotAuthenticated, or Unavailable where the issuer's keys cannot be had."""
        sent = endpoint.credential(headers)
        if not sent:
            raise NotAuthenticatedError("This needs a token. Send it as 'Authorization: Bearer TOKEN'.")
        if len(sent) > _LONGEST:
            raise _refused("it is too long")
        try:
            head = jwt.get_unverified_header(sent)
            key = self._usable(await self._issuer.key(head.get("kid")), str(head.get("alg")))
            claims = jwt.decode(
                sent,
                key,
                algorithms=ALGORITHMS,
                audience=self._audience,
                issuer=self._url,
                leeway=_LEEWAY,
                options={"require": ["exp", "iss", "aud", "sub"], "enforce_minimum_key_length": True},
            )
        except jwt.PyJWTError as error:
            reason = next((text for kind, text in _REASONS if isinstance(error, kind)), "it cannot be verified")
            raise _refused(reason) from error
        subject = claims["sub"]
        if not isinstance(subject, str) or not 0 < len(subject) <= 255 or not subject.isprintable():
            raise _refused("its subject is no name")
        return Caller(subject, self._roles(claims))

    @staticmethod
    def _usable(key: dict[str, Any] | None, algorithm: str) -> jwt.PyJWK:
        """Return a key for an algorithm; the key's own kind decides, not what the token says of itself."""
        if key is None:
            raise _refused("the issuer does not sign with its key")
        if algorithm not in ALGORITHMS or not algorithm.startswith(_FAMILIES[key["kty"]]):
            raise _refused("it is signed in a way that is not taken")
        return jwt.PyJWK(key, key.get("alg") or algorithm)

    def _roles(self, claims: Mapping[str, Any]) -> frozenset[Role]:
        found: Any = claims.get(self._claim)
        if found is None:
            found = claims
            for part in self._claim.split("."):
                found = found.get(part) if isinstance(found, Mapping) else None
        words = found.split() if isinstance(found, str) else found if isinstance(found, list) else []
        named = {
            word.removeprefix(self._prefix) for word in words if isinstance(word, str) and word.startswith(self._prefix)
        }
        return frozenset(role for role in Role if role in named)


def _refused(reason: str) -> NotAuthenticatedError:
    return NotAuthenticatedError(f"The token is not taken: {reason}.")

"""Authentication by tokens of an OpenID Connect issuer (JWT, RFC 7519; validated as RFC 8725 recommends)."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import jwt

from gateway.access import Caller
from gateway.access.issuer import TokenIssuer
from gateway.errors import NotAuthenticatedError
from radserve.auth.api_keys import Role

ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""Asymmetric signatures only: neither `none` nor HMAC, whose key would be the public one."""
_ALGORITHM_PREFIXES: Final = {"RSA": ("RS", "PS"), "EC": ("ES",), "OKP": ("Ed",)}
_LEEWAY: Final = 30.0
"""Tolerated clock difference in seconds."""
_MAX_LENGTH: Final = 16 * 1024
_REASONS: Final[Sequence[tuple[type[jwt.PyJWTError], str]]] = (
    (jwt.ExpiredSignatureError, "it has expired"),
    (jwt.ImmatureSignatureError, "it is not valid yet"),
    (jwt.InvalidAudienceError, "it is for another audience"),
    (jwt.InvalidIssuerError, "it is from another issuer"),
    (jwt.MissingRequiredClaimError, "it lacks one of exp, iss, aud and sub"),
    (jwt.InvalidSignatureError, "its signature is invalid"),
)


class TokenVerifier:
    """Verifies the tokens of an issuer; the subject (`sub`) is the caller's name.

    `claim` lists roles: a name, or a dotted path (`realm_access.roles`). Entries without `prefix` are ignored.
    """

    def __init__(self, issuer: TokenIssuer, audience: str, claim: str, prefix: str) -> None:
        self._issuer = issuer
        self._audience = audience
        self._claim = claim
        self._prefix = prefix

    async def verify(self, token: str) -> Caller:
        """Return the caller; raises NotAuthenticatedError, or UnavailableError without the issuer's keys."""
        if len(token) > _MAX_LENGTH:
            raise _rejected("it is too long")
        try:
            header = jwt.get_unverified_header(token)
            key = self._select_key(await self._issuer.key(header.get("kid")), str(header.get("alg")))
            claims = jwt.decode(
                token,
                key,
                algorithms=ALGORITHMS,
                audience=self._audience,
                issuer=self._issuer.url,
                leeway=_LEEWAY,
                options={"require": ["exp", "iss", "aud", "sub"], "enforce_minimum_key_length": True},
            )
        except jwt.PyJWTError as error:
            reason = next((text for kind, text in _REASONS if isinstance(error, kind)), "it cannot be verified")
            raise _rejected(reason) from error
        subject = claims["sub"]
        if not isinstance(subject, str) or not 0 < len(subject) <= 255 or not subject.isprintable():
            raise _rejected("its subject is not a valid name")
        return Caller(subject, self._roles(claims))

    @staticmethod
    def _select_key(key: dict[str, Any] | None, algorithm: str) -> jwt.PyJWK:
        """Return the key for an algorithm; the type of the key decides, not the token's header alone."""
        if key is None:
            raise _rejected("its signing key is unknown to the issuer")
        if algorithm not in ALGORITHMS or not algorithm.startswith(_ALGORITHM_PREFIXES[key["kty"]]):
            raise _rejected("its signature algorithm is not supported")
        return jwt.PyJWK(key, key.get("alg") or algorithm)

    def _roles(self, claims: Mapping[str, Any]) -> frozenset[Role]:
        value: Any = claims.get(self._claim)
        if value is None:
            value = claims
            for part in self._claim.split("."):
                value = value.get(part) if isinstance(value, Mapping) else None
        entries = value.split() if isinstance(value, str) else value if isinstance(value, list) else []
        names = {
            entry.removeprefix(self._prefix)
            for entry in entries
            if isinstance(entry, str) and entry.startswith(self._prefix)
        }
        return frozenset(role for role in Role if role in names)


def _rejected(reason: str) -> NotAuthenticatedError:
    return NotAuthenticatedError(f"Token rejected: {reason}.")

"""Identifies callers by API key (checked by `radserve.auth.key_check`) or token, as the settings say."""

import logging
from collections.abc import Mapping
from typing import Final

from gateway.access import Authenticator, Caller
from gateway.access.issuer import TokenIssuer
from gateway.access.local import LocalAuthenticator, is_loopback
from gateway.access.tokens import TokenVerifier
from gateway.errors import NotAuthenticatedError, SettingsError
from gateway.settings import Settings
from radserve.auth import key_check
from radserve.auth.key_check import Keyring

logger = logging.getLogger(__name__)

_KEY_PREFIX: Final = "radserve_"


class CredentialAuthenticator:
    """Identifies callers by API keys, tokens or both; the prefix of the credential tells them apart."""

    def __init__(self, keyring: Keyring | None, tokens: TokenVerifier | None = None) -> None:
        self._keyring = keyring
        self._tokens = tokens
        kinds = [kind for kind, part in (("API key", keyring), ("token", tokens)) if part is not None]
        self._missing = (
            f"Missing {' or '.join(kinds)}. Send it as 'Authorization: Bearer ...'; a key also as 'X-API-Key'."
        )

    async def identify(self, headers: Mapping[str, str]) -> Caller:
        """Return the caller; raises NotAuthenticatedError."""
        credential = key_check.credential(headers)
        if not credential:
            raise NotAuthenticatedError(self._missing)
        if self._keyring is not None and (self._tokens is None or credential.startswith(_KEY_PREFIX)):
            key = await self._keyring.find_current(credential)
            if key is None:
                raise NotAuthenticatedError("The API key is unknown, revoked or expired; ask the operator for another.")
            return Caller(key.name, frozenset(key.roles))
        assert self._tokens is not None
        caller = await self._tokens.verify(credential)
        if self._keyring is not None and self._keyring.has_name(caller.name):  # whose results the caller would see
            raise NotAuthenticatedError("Token rejected: an API key has the same name as its subject.")
        return caller


def create(settings: Settings) -> Authenticator:
    """Create an authenticator for keys, tokens or both, else for this machine; raises SettingsError or KeysError."""
    if bool(settings.oidc_issuer) != bool(settings.oidc_audience):
        raise SettingsError(
            "RADSERVE_GATEWAY_OIDC_ISSUER and RADSERVE_GATEWAY_OIDC_AUDIENCE must be set together: without an "
            "audience, tokens for other applications would be accepted."
        )
    if not settings.keys and not settings.oidc_issuer:
        logger.warning(
            "authentication is off (RADSERVE_GATEWAY_KEYS is not set): all users of this machine have access"
        )
        return LocalAuthenticator(settings.origins)
    tokens = None
    if settings.oidc_issuer:
        issuer = TokenIssuer(settings.oidc_issuer)
        tokens = TokenVerifier(issuer, settings.oidc_audience, settings.oidc_roles_claim, settings.oidc_role_prefix)
    return CredentialAuthenticator(Keyring.open(settings.keys) if settings.keys else None, tokens)


def require_safe(settings: Settings, host: str) -> None:
    """Raise SettingsError if other machines can reach the gateway at an address and authentication is off."""
    if settings.keys or settings.oidc_issuer or is_loopback(host):
        return
    raise SettingsError(
        f"RADSERVE_GATEWAY_HOST has value {host!r}, which other machines can reach, but authentication is off. "
        "Create a key with 'radserve keys create NAME --role predict --keys FILE' and set RADSERVE_GATEWAY_KEYS=FILE; "
        "or set RADSERVE_GATEWAY_OIDC_ISSUER and RADSERVE_GATEWAY_OIDC_AUDIENCE; or listen on 127.0.0.1."
    )

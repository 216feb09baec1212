"""Creates the authenticator that the settings describe."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final

from gateway.access import Authenticator, Caller
from gateway.access.api_keys import ApiKeyAuthenticator
from gateway.access.issuer import TokenIssuer
from gateway.access.local import LocalAuthenticator, is_loopback
from gateway.access.tokens import TokenAuthenticator
from gateway.errors import NotAuthenticatedError, SettingsError
from gateway.settings import Settings
from radserve.auth import endpoint

logger = logging.getLogger(__name__)

_KEY_PREFIX: Final = "radserve_"


class KeyOrTokenAuthenticator:
    """Accepts API keys and tokens; the prefix of the credential tells them apart."""

    def __init__(self, keys: ApiKeyAuthenticator, tokens: TokenAuthenticator) -> None:
        self._keys = keys
        self._tokens = tokens

    async def identify(self, headers: Mapping[str, str]) -> Caller:
        """Return the caller; raises NotAuthenticatedError."""
        credential = endpoint.credential(headers)
        if not credential:
            raise NotAuthenticatedError(
                "API key or token required. Send it as 'Authorization: Bearer ...'; a key also as 'X-API-Key'."
            )
        if credential.startswith(_KEY_PREFIX):
            return await self._keys.identify(headers)
        caller = await self._tokens.identify(headers)
        if self._keys.has_name(caller.name):  # the caller would see the results of the key's owner
            raise NotAuthenticatedError("Token rejected: an API key has the same name as its subject.")
        return caller


def create(settings: Settings) -> Authenticator:
    """Create an authenticator for keys, tokens or both; without either, for this machine only.

    Raises
    ------
    SettingsError, KeysError
        If the settings are incomplete or the keys cannot be read.
    """
    tokens = _create_tokens(settings)
    if settings.keys:
        keys = ApiKeyAuthenticator.open(settings.keys)
        return KeyOrTokenAuthenticator(keys, tokens) if tokens else keys
    if tokens:
        return tokens
    logger.warning("authentication is off (RADSERVE_GATEWAY_KEYS is not set): all users of this machine have access")
    return LocalAuthenticator(settings.origins)


def require_safe(settings: Settings, host: str) -> None:
    """Raise SettingsError if other machines can reach the gateway and authentication is off.

    Parameters
    ----------
    host
        Address that the gateway listens on.
    """
    if settings.keys or settings.oidc_issuer or is_loopback(host):
        return
    raise SettingsError(
        f"RADSERVE_GATEWAY_HOST has value {host!r}, which other machines can reach, but authentication is off. "
        "Create a key with 'radserve keys create NAME --role predict --keys FILE' and set RADSERVE_GATEWAY_KEYS=FILE; "
        "or set RADSERVE_GATEWAY_OIDC_ISSUER and RADSERVE_GATEWAY_OIDC_AUDIENCE; or listen on 127.0.0.1."
    )


def _create_tokens(settings: Settings) -> TokenAuthenticator | None:
    issuer, audience = settings.oidc_issuer, settings.oidc_audience
    if not issuer and not audience:
        return None
    if not issuer or not audience:
        raise SettingsError(
            "RADSERVE_GATEWAY_OIDC_ISSUER and RADSERVE_GATEWAY_OIDC_AUDIENCE must be set together: without an "
            "audience, tokens for other applications would be accepted."
        )
    return TokenAuthenticator(
        TokenIssuer(issuer), issuer, audience, settings.oidc_roles_claim, settings.oidc_role_prefix
    )

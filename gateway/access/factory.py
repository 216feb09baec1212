"""Which access the operator chose, and where a gateway may listen with it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final

from gateway.access import Access, Caller
from gateway.access.issuer import Issuer
from gateway.access.keys import Keys
from gateway.access.local import Local, is_loopback
from gateway.access.tokens import Tokens
from gateway.errors import NotAuthenticatedError, SettingsError
from gateway.settings import Settings
from radserve.auth import endpoint

logger = logging.getLogger(__name__)

_KEY: Final = "radserve_"


class Both:
    """Takes keys and tokens: what looks like one of our keys is one, all else is a token."""

    def __init__(self, keys: Keys, tokens: Tokens) -> None:
        self._keys = keys
        self._tokens = tokens

    async def identify(self, headers: Mapping[str, str]) -> Caller:
        """Return the caller; raises NotAuthenticated."""
        sent = endpoint.credential(headers)
        if not sent:
            raise NotAuthenticatedError(
                "This needs an API key or a token. Send it as 'Authorization: Bearer ...', a key also as 'X-API-Key'."
            )
        if sent.startswith(_KEY):
            return await self._keys.identify(headers)
        caller = await self._tokens.identify(headers)
        if self._keys.named(caller.name):  # else it would see the results of the key's owner
            raise NotAuthenticatedError("The token is not taken: an API key has the name of its subject.")
        return caller


def make(settings: Settings) -> Access:
    """Return the access that settings describe: keys, tokens, both, or nobody is asked.

    Raises
    ------
    SettingsError, KeysError
        If it cannot be made.
    """
    tokens = _tokens(settings)
    if settings.keys:
        keys = Keys.open(settings.keys)
        return Both(keys, tokens) if tokens else keys
    if tokens:
        return tokens
    logger.warning("no keys are set (RADSERVE_GATEWAY_KEYS): everybody on this machine may ask, and see all results")
    return Local(settings.origins)


def require_safe(settings: Settings, host: str) -> None:
    """Refuse to be reached by others without knowing who asks.

    Parameters
    ----------
    host
        What is listened on; "" where that is not this machine alone, as on Lambda.

    Raises
    ------
    SettingsError
        If it is not the loopback, and there are neither keys nor tokens.
    """
    if settings.keys or settings.oidc_issuer or is_loopback(host):
        return
    raise SettingsError(
        f"RADSERVE_GATEWAY_HOST has value {host!r}: others can reach that, and nobody would be asked for a key. "
        "Make keys with 'radserve keys create NAME --role predict --keys FILE' and name them with "
        "RADSERVE_GATEWAY_KEYS=FILE, or name an issuer of tokens with RADSERVE_GATEWAY_OIDC_ISSUER and "
        "RADSERVE_GATEWAY_OIDC_AUDIENCE; or listen on 127.0.0.1."
    )


def _tokens(settings: Settings) -> Tokens | None:
    issuer, audience = settings.oidc_issuer, settings.oidc_audience
    if not issuer and not audience:
        return None
    if not issuer or not audience:
        raise SettingsError(
            "RADSERVE_GATEWAY_OIDC_ISSUER and RADSERVE_GATEWAY_OIDC_AUDIENCE belong together: a token of the issuer "
            "for somebody else must not be taken. Set both, or none."
        )
    return Tokens(Issuer(issuer), issuer, audience, settings.oidc_roles_claim, settings.oidc_role_prefix)

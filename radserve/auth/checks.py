"""Check of API keys before a server is started."""

from datetime import UTC, datetime, timedelta
from typing import Final

from radserve.auth import api_keys, key_file, key_sources
from radserve.auth.api_keys import Role
from radserve.errors import KeysError
from radserve.host.checks import Finding

_SOON: Final = timedelta(days=14)
_CREATE: Final = "Create one: radserve keys create NAME --role predict --keys FILE"


def keys(text: str, now: datetime | None = None) -> Finding:
    """Check that a source holds valid keys, that none ends soon, and that only its owner can read it."""
    moment = now or datetime.now(UTC)
    try:
        source = key_sources.source(text)
        listed = api_keys.parse(source.read(), source.name).keys
    except KeysError as error:
        return Finding("Keys", "PROBLEM", str(error))
    if source.path is not None and key_file.readable_by_others(source.path):
        return Finding("Keys", "warning", f"{source.name}: other users can read it", f"chmod 600 {source.name}")
    valid = [key for key in listed if not key.expired(moment)]
    if not any(Role.PREDICT in key.roles for key in valid):
        return Finding("Keys", "PROBLEM", f"{source.name}: no valid key has the role predict", _CREATE)
    ending = [key.name for key in valid if key.expires is not None and key.expires < moment + _SOON]
    if ending:
        return Finding("Keys", "warning", f"{source.name}: {', '.join(ending)} end within two weeks", _CREATE)
    return Finding("Keys", "ok", f"{len(valid)} valid keys in {source.name}")

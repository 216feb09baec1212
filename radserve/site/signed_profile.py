"""Signs site profiles, and reads signed ones; see `handlers.profile`."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pydantic import ValidationError

from handlers.profile import SiteProfile, VerifiedProfile
from handlers.validation_error import describe
from radserve.errors import SiteProfileError
from radserve.store import signature
from radserve.store.signature import KeySource

if TYPE_CHECKING:
    from securesystemslib.signer import CryptoSigner, SSlibKey  # type: ignore[attr-defined]  # not in its __all__

PAYLOAD_TYPE: Final = "application/vnd.radserve.site-profile.v1+json"


def seal(profile: SiteProfile, signer: CryptoSigner) -> bytes:
    """Return a signed profile."""
    return signature.seal(profile.model_dump_json().encode(), signer, PAYLOAD_TYPE)


def load(paths: Sequence[str | Path], public_keys: KeySource) -> tuple[VerifiedProfile, ...]:
    """Read profiles that one of the keys signed; raises SiteProfileError, or StoreError for keys and signatures."""
    if not paths:
        return ()
    if not public_keys:
        raise SiteProfileError(
            "--profile-key is missing: a profile changes results, so its signature must be verified. Set the .pub file "
            "of the key with which 'radserve calibrate --site' signed it."
        )
    trusted = signature.read_public_keys(public_keys)
    return tuple(_read(Path(path), trusted) for path in paths)


def _read(path: Path, trusted: tuple[SSlibKey, ...]) -> VerifiedProfile:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SiteProfileError(f"--profile {path}: {error.strerror}.") from error
    payload = signature.unseal(data, trusted, f"--profile {path}", PAYLOAD_TYPE).payload
    try:
        profile = SiteProfile.model_validate_json(payload)
    except ValidationError as error:
        raise SiteProfileError(f"--profile {path}: {describe(error)}. Fit it with this release.") from error
    return VerifiedProfile(profile, hashlib.sha256(payload).hexdigest())

"""The certificate of the front, checked before nginx reads it: nginx would serve an expired one without a word."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Final, NoReturn

from radserve.errors import ServeError

_DAY: Final = 86400.0


def check(certificate: Path, key: Path) -> float:
    """Check that a certificate and its key can be read, belong together and are valid now.

    Returns
    -------
    The time at which it expires, in seconds since the epoch.

    Raises
    ------
    ServeError
        Naming the file and what is wrong.
    """
    for path in (certificate, key):
        try:
            path.read_bytes()
        except OSError as error:
            raise ServeError(f"{path}: {error.strerror}, so there is no TLS.") from error
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        server.load_cert_chain(certificate, key, password=_no_password)
    except ssl.SSLError as error:
        reason = "is not the key of" if error.reason == "KEY_VALUES_MISMATCH" else "or its certificate is broken:"
        raise ServeError(f"{key}: {reason} {certificate} ({error.reason or 'no PEM'}).") from error
    try:
        return _shake_hands(server, certificate)
    except ssl.SSLCertVerificationError as error:
        raise ServeError(f"{certificate}: {error.verify_message}; renew it.") from error
    except ssl.SSLError as error:
        raise ServeError(f"{certificate}: cannot be used for TLS ({error.reason}).") from error


def _no_password() -> NoReturn:
    raise ServeError("The certificate's key is encrypted; a server that starts by itself needs it decrypted.")


def _shake_hands(server: ssl.SSLContext, certificate: Path) -> float:
    """Let a client that trusts this very certificate connect in memory: it checks the dates as every client does."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(certificate)
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    near = context.wrap_bio(down, up)
    far = server.wrap_bio(up, down, server_side=True)
    for side in (near, far, near):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    found = near.getpeercert()
    assert found is not None
    return ssl.cert_time_to_seconds(str(found["notAfter"]))


def days_left(expires: float, now: float) -> int:
    """Count the whole days until a time."""
    return int((expires - now) // _DAY)

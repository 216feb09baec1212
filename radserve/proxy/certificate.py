"""Validation of the proxy's TLS certificate; nginx would serve an expired one without an error."""

import ssl
from pathlib import Path
from typing import NoReturn

from radserve.errors import ServeError


def check(certificate: Path, key: Path) -> None:
    """Check that a certificate and its key are readable, match and are valid now."""
    for path in (certificate, key):
        try:
            path.read_bytes()
        except OSError as error:
            raise ServeError(f"{path}: {error.strerror}; TLS needs this file.") from error
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ServeError(f"{key}: not the key of {certificate}.") from error
        raise ServeError(f"{key} or {certificate}: invalid ({error.reason or 'not a PEM file'}).") from error
    try:
        _handshake(context, certificate)
    except ssl.SSLCertVerificationError as error:
        raise ServeError(f"{certificate}: {error.verify_message}; renew it.") from error
    except ssl.SSLError as error:
        raise ServeError(f"{certificate}: unusable for TLS ({error.reason}).") from error


def _no_password() -> NoReturn:
    raise ServeError("The certificate's key is encrypted; decrypt it, because nginx cannot ask for the password.")


def _handshake(server_context: ssl.SSLContext, certificate: Path) -> None:
    """Connect in memory with a client that trusts this certificate: it checks the dates like every client."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(certificate)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(to_client, to_server)
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    for side in (client, server, client):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue

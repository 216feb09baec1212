"""`radserve sagemaker`: one archive as a SageMaker endpoint with /ping and /invocations.

https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-inference-code.html
"""

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from radserve.build import mar
from radserve.build import model_store as store_index
from radserve.build.model_store import Entry, Index
from radserve.cli.serve import CONFIGURATION, Config
from radserve.errors import ArchiveError, SiteProfileError
from radserve.schema.domain import Mode

if TYPE_CHECKING:
    from handlers.profile import VerifiedProfile

_REQUESTS: Final = 10_000
"""Limit of requests per second and of open requests: SageMaker sends all from one address and limits them itself."""


def prepare_store(folder: Path, scratch: Path) -> Entry:
    """Copy the only archive that SageMaker unpacked to `scratch`, with an index; return its entry."""
    files = sorted(folder.glob("*.mar"))
    if len(files) != 1:
        names = ", ".join(file.name for file in files) or "none"
        raise ArchiveError(f"{folder}: must contain exactly one archive (.mar), has {names}; build model.tar.gz again.")
    (file,) = files
    entry = _indexed(folder, file) if (folder / store_index.FILE).exists() else _describe(file)
    shutil.copyfile(file, scratch / file.name)
    store_index.write(scratch, Index(archives=(entry,)))
    return entry


def _load_profile(path: str, key: str | None, entry: Entry) -> "tuple[VerifiedProfile, ...]":
    """Read the signed profile, if there is one; raise SiteProfileError if it is of another model or version."""
    from radserve.site import signed_profile

    profiles = signed_profile.load([path] if path else [], key)
    for item in profiles:
        if (item.profile.model, item.profile.version) != (entry.name, entry.version):
            raise SiteProfileError(
                f"--profile {path}: is for {item.profile.model} {item.profile.version}, but this endpoint serves "
                f"{entry.name} {entry.version}. Set the profile of that version, or omit it."
            )
    return profiles


def _indexed(folder: Path, file: Path) -> Entry:
    for entry in store_index.read(folder).archives:
        if entry.file == file.name:
            return entry
    raise ArchiveError(f"{file}: not listed in {store_index.FILE} in the same folder; omit that file, or rebuild it.")


def _describe(file: Path) -> Entry:
    """Describe an archive without an index; only SageMaker's download guarantees its integrity."""
    model = mar.manifest(file)
    sha256 = store_index.sha256(file)
    return Entry(**model, file=file.name, sha256=sha256, size=file.stat().st_size, inputs=sha256)


def sagemaker(
    *,
    model: Annotated[
        Path, typer.Option(help="Folder with the unpacked model.tar.gz: one archive, and optionally its index.json.")
    ] = Path("/opt/ml/model"),
    port: Annotated[int, typer.Option(envvar="SAGEMAKER_BIND_TO_PORT", help="Port of /ping and /invocations.")] = 8080,
    config: Config = CONFIGURATION,
    health_port: Annotated[int, typer.Option(help="Port of /live and /ready, on loopback.")] = 8090,
    domain: Annotated[
        Mode, typer.Option(envvar="RADSERVE_DOMAIN", help="Images unlike the training images, as in 'radserve serve'.")
    ] = "strict",
    profile: Annotated[
        str, typer.Option(envvar="RADSERVE_PROFILE", help="Site profile to apply, as in 'radserve serve'.")
    ] = "",
    profile_key: Annotated[
        str | None, typer.Option(envvar="RADSERVE_PROFILE_KEY", help="Public key (PEM) that verifies the profile.")
    ] = None,
) -> None:
    """Serve one archive as a SageMaker endpoint.

    The image runs this when SageMaker starts it with 'serve'. Only /ping,
    /invocations and /execution-parameters are open, without keys: SageMaker
    authenticates its callers, and only SageMaker reaches the port.
    """
    import asyncio

    from radserve import logging
    from radserve.proxy.options import ProxyOptions
    from radserve.server import supervisor
    from radserve.server.options import ServerOptions

    logging.configure()
    with tempfile.TemporaryDirectory(prefix="radserve-") as scratch:
        entry = prepare_store(model, Path(scratch))
        proxy = ProxyOptions(
            host="0.0.0.0",  # noqa: S104 - SageMaker connects from outside the container
            port=port,
            management_host="127.0.0.1",
            management_port=8444,
            metrics_port=9180,
            plain_http=True,
            rate=_REQUESTS,
            concurrent=_REQUESTS,
            sagemaker=entry.name,
        )
        options = ServerOptions(
            store=Path(scratch),
            configuration=config,
            health_port=health_port,
            proxy=proxy,
            domain=domain,
            profiles=_load_profile(profile, profile_key, entry),
        )
        raise typer.Exit(asyncio.run(supervisor.serve(options, typer.echo)))

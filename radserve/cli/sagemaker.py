"""SageMaker's container contract: `serve`, an archive under /opt/ml/model, /ping and /invocations on 8080.

https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-inference-code.html
"""

from __future__ import annotations

import json
import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import Annotated, Final

import typer

from radserve.build import model_store as store_index
from radserve.build.mar import MANIFEST
from radserve.build.model_store import Entry, Index
from radserve.cli.serve import CONFIGURATION, Config
from radserve.errors import ArchiveError

_REQUESTS: Final = 10_000
"""A second, and open at once: all come from SageMaker's one address, which holds them back by itself."""


def store(folder: Path, scratch: Path) -> tuple[Path, str]:
    """Find what SageMaker unpacked: a model store with one archive, or an archive alone.

    Parameters
    ----------
    scratch
        Folder for the archive and an index with nothing else in it: what was unpacked is left as it is.

    Returns
    -------
    The model store, and the name of its model.

    Raises
    ------
    ArchiveError
        If there is not exactly one archive.
    """
    files = sorted(folder.glob("*.mar"))
    if len(files) != 1:
        names = ", ".join(file.name for file in files) or "none"
        raise ArchiveError(f"{folder}: has to hold exactly one archive (.mar), found {names}; model.tar.gz is made so.")
    (file,) = files
    entry = _listed(folder, file) if (folder / store_index.FILE).exists() else _describe(file)
    shutil.copyfile(file, scratch / file.name)
    store_index.write(scratch, Index(archives=(entry,)))
    return scratch, entry.name


def _listed(folder: Path, file: Path) -> Entry:
    for entry in store_index.read(folder).archives:
        if entry.file == file.name:
            return entry
    raise ArchiveError(f"{file}: is not listed in the {store_index.FILE} beside it; leave that away, or build anew.")


def _describe(file: Path) -> Entry:
    """Describe an archive that came alone: SageMaker's own download is all that vouches for it."""
    try:
        with zipfile.ZipFile(file) as archive:
            model = json.loads(archive.read(MANIFEST))["model"]
    except (zipfile.BadZipFile, KeyError, ValueError) as error:
        raise ArchiveError(f"{file}: is no archive ({error}); build it with 'radserve build NAME'.") from error
    sha256 = store_index.sha256(file)
    return Entry(
        name=model["modelName"],
        version=model["modelVersion"],
        file=file.name,
        sha256=sha256,
        size=file.stat().st_size,
        inputs=sha256,
    )


def sagemaker(
    *,
    model: Annotated[
        Path,
        typer.Option(
            help="Folder that SageMaker unpacked model.tar.gz into: an archive, its index.json if it has one."
        ),
    ] = Path("/opt/ml/model"),
    port: Annotated[int, typer.Option(envvar="SAGEMAKER_BIND_TO_PORT", help="Port of /ping and /invocations.")] = 8080,
    config: Config = CONFIGURATION,
    inference_port: Annotated[int, typer.Option(help="Port of TorchServe, on loopback.")] = 8081,
    health_port: Annotated[int, typer.Option(help="Port of /live and /ready, on loopback.")] = 8090,
    metrics_port: Annotated[int, typer.Option(help="Port of TorchServe's /metrics, on loopback.")] = 8082,
) -> None:
    """Serve one archive as a SageMaker endpoint.

    What the image does when it is started with 'serve' where /opt/ml/model is.
    Nothing but /ping and /invocations is open, without keys: SageMaker itself
    authenticates its callers, and nobody else reaches the port.
    """
    import asyncio

    from radserve import logging
    from radserve.proxy.options import Options
    from radserve.server import options as serve_options
    from radserve.server import supervisor
    from radserve.torchserve.launch import Address

    logging.configure()
    with tempfile.TemporaryDirectory(prefix="radserve-") as scratch:
        found, name = store(model, Path(scratch))
        published = Options(
            host="0.0.0.0",  # noqa: S104 - SageMaker asks from outside the container
            port=port,
            management_host="127.0.0.1",
            management_port=8444,
            metrics_port=9180,
            plain_http=True,
            rate=_REQUESTS,
            concurrent=_REQUESTS,
            sagemaker=name,
        )
        options = serve_options.Options(
            store=found,
            configuration=config,
            address=Address("127.0.0.1", inference_port, metrics_port),
            health_port=health_port,
            front=published,
        )
        raise typer.Exit(asyncio.run(supervisor.serve(options, typer.echo)))

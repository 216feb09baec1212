"""`radserve predict`: options of the command; `radserve.cli.predict_requests` does the work."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer


def predict(
    name: Annotated[str, typer.Argument(help="Model name.")],
    files: Annotated[list[str], typer.Argument(help="Images, folders of images, or - for standard input.")],
    *,
    url: Annotated[str, typer.Option(help="URL of the server or gateway.")] = "http://127.0.0.1:8080",
    version: Annotated[str | None, typer.Option(help="Model version. Default: the server's default version.")] = None,
    json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document a line, in the order of the files.")
    ] = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV with a header, in the order of the files.")] = False,
    concurrency: Annotated[int, typer.Option(min=1, max=64, help="Maximum number of parallel requests.")] = 4,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for a response.")] = 60.0,
    masks: Annotated[Path | None, typer.Option(help="Write masks to this folder, as NAME.mask.png.")] = None,
    overlays: Annotated[
        Path | None, typer.Option(help="Write images with the outlines of their masks, as NAME.overlay.png.")
    ] = None,
    explain: Annotated[Path | None, typer.Option(help="Write images under a heat map, as NAME.heat.png.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace existing pictures.")] = False,
    key: Annotated[
        str | None, typer.Option(envvar="RADSERVE_KEY", help="API key; prefer the environment variable.")
    ] = None,
    cacert: Annotated[
        Path | None, typer.Option(help="PEM file of the authority that signed the server's certificate.")
    ] = None,
    api: Annotated[
        Literal["auto", "server", "gateway"],
        typer.Option(help="Paths to use. auto detects them from the URL, which matters where nginx serves both."),
    ] = "auto",
) -> None:
    """Send images to a running server or gateway and print the results.

    A folder stands for the files in it and its subfolders that have an image suffix or no suffix; hidden files are
    skipped. Results go to standard output, everything else to standard error.

    Exit codes:
    0    every image has a result, and every picture is written
    1    at least one image has no result; its line says why
    2    invalid usage, missing file, no image, unknown model, or a picture that exists or cannot be written
    3    nothing listens at the URL
    130  interrupted
    """
    from radserve.cli import predict_requests as predicting
    from radserve.cli.outputs import Pictures

    if json and csv:
        raise typer.BadParameter("--json and --csv exclude each other.")
    form: predicting.Form = "json" if json else "csv" if csv else "table"
    pictures = Pictures(masks, overlays, explain, force)
    options = predicting.Options(name, files, url, version, form, concurrency, timeout, key, cacert, api, pictures)
    raise typer.Exit(predicting.predict(options))

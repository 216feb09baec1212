"""Pushes built images to a registry of AWS (ECR)."""

from __future__ import annotations

import base64
import re
import shutil
import subprocess
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Self

import typer

from radserve.errors import RadServeError

if TYPE_CHECKING:
    from types_boto3_ecr import ECRClient

_HOST: Final = re.compile(r"(?P<account>\d{12})\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.amazonaws\.com(\.cn)?")
_ROOT: Final = Path(__file__).resolve().parents[2]


class RegistryError(RadServeError):
    """An image cannot be pushed."""


@dataclass(frozen=True)
class Registry:
    """Private ECR registry of one account and region."""

    host: str
    account: str
    region: str

    @classmethod
    def parse(cls, host: str) -> Self:
        """Parse ACCOUNT.dkr.ecr.REGION.amazonaws.com.

        Raises
        ------
        RegistryError
            If the host has another form.
        """
        match = _HOST.fullmatch(host)
        if match is None:
            raise RegistryError(f"Registry {host!r} does not have the form ACCOUNT.dkr.ecr.REGION.amazonaws.com.")
        return cls(host, match["account"], match["region"])


@dataclass(frozen=True)
class Image:
    """Local image radserve/NAME:VERSION."""

    name: str
    version: str

    @property
    def repository(self) -> str:
        """Repository in the registry."""
        return f"radserve/{self.name}"

    @property
    def tag(self) -> str:
        """Repository and version, without a registry."""
        return f"{self.repository}:{self.version}"


class Engine:
    """Container engine that holds the built images: docker, or buildah without a docker daemon."""

    def __init__(self, program: str) -> None:
        self.program = program

    @classmethod
    def find(cls) -> Self:
        """Choose the engine that `scripts/build-images` uses.

        Raises
        ------
        RegistryError
            If neither engine is available.
        """
        if (
            shutil.which("docker")
            and subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0
        ):
            return cls("docker")
        if shutil.which("buildah"):
            return cls("buildah")
        raise RegistryError("No container engine: start the docker daemon, or install buildah.")

    def login(self, host: str, user: str, password: str) -> None:
        """Log in; the password is passed by standard input, so the process list does not show it."""
        self._run("login", "--username", user, "--password-stdin", host, stdin=password)

    def push(self, image: Image, target: str) -> None:
        """Tag an image as `target` and push it."""
        self._run("tag", image.tag, target)
        self._run("push", target)

    def _run(self, *arguments: str, stdin: str = "") -> None:
        process = subprocess.run([self.program, *arguments], input=stdin, capture_output=True, text=True, check=False)
        if process.returncode != 0:
            reason = process.stderr.strip().splitlines()[-1:] or [f"exit code {process.returncode}"]
            raise RegistryError(f"'{self.program} {arguments[0]}' failed: {reason[0]}")


def prepare_repository(ecr: ECRClient, repository: str) -> None:
    """Ensure that a repository exists, scans pushed images and has immutable tags."""
    try:
        ecr.describe_repositories(repositoryNames=[repository])
    except ecr.exceptions.RepositoryNotFoundException:
        ecr.create_repository(repositoryName=repository)
    ecr.put_image_tag_mutability(repositoryName=repository, imageTagMutability="IMMUTABLE")
    ecr.put_image_scanning_configuration(repositoryName=repository, imageScanningConfiguration={"scanOnPush": True})


def push(ecr: ECRClient, engine: Engine, host: str, images: Sequence[Image]) -> None:
    """Push images; missing repositories are created.

    Raises
    ------
    RegistryError
        If the registry already has one of the versions (nothing is pushed then), or the engine fails.
    """
    for image in images:
        prepare_repository(ecr, image.repository)
        try:
            ecr.describe_images(repositoryName=image.repository, imageIds=[{"imageTag": image.version}])
        except ecr.exceptions.ImageNotFoundException:
            continue
        raise RegistryError(
            f"{host}/{image.tag} exists, and tags are immutable; raise the version in pyproject.toml and rebuild."
        )
    (data,) = ecr.get_authorization_token()["authorizationData"]
    user, _, password = base64.b64decode(data["authorizationToken"]).decode().partition(":")
    engine.login(host, user, password)
    for image in images:
        engine.push(image, f"{host}/{image.tag}")


def main(
    registry: Annotated[str, typer.Argument(help="ACCOUNT.dkr.ecr.REGION.amazonaws.com")],
    targets: Annotated[list[str] | None, typer.Argument(help="server, server-cpu, train. Default: server.")] = None,
) -> None:
    """Push images that scripts/build-images built to ECR."""
    import boto3

    try:
        parsed = Registry.parse(registry)
        version = tomllib.loads((_ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
        images = [Image(name, version) for name in targets or ["server"]]
        push(boto3.client("ecr", region_name=parsed.region), Engine.find(), parsed.host, images)
    except RegistryError as error:
        typer.echo(f"push-images: {error}", err=True)
        raise typer.Exit(1) from error
    for image in images:
        typer.echo(f"{parsed.host}/{image.tag}")


if __name__ == "__main__":
    typer.run(main)

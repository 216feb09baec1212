"""Push built images to a registry of AWS (ECR): what `scripts/push-images` runs."""

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

from radserve.errors import RegistryError

if TYPE_CHECKING:
    from types_boto3_ecr import ECRClient

_HOST: Final = re.compile(r"(?P<account>\d{12})\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.amazonaws\.com(\.cn)?")
_ROOT: Final = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Registry:
    """A private ECR registry: one account's, in one region."""

    host: str
    account: str
    region: str

    @classmethod
    def parse(cls, host: str) -> Self:
        """Read ACCOUNT.dkr.ecr.REGION.amazonaws.com.

        Raises
        ------
        RegistryError
            If it is none.
        """
        match = _HOST.fullmatch(host)
        if match is None:
            raise RegistryError(f"Registry {host!r} is not of the form ACCOUNT.dkr.ecr.REGION.amazonaws.com.")
        return cls(host, match["account"], match["region"])


@dataclass(frozen=True)
class Image:
    """An image as built here: radserve/NAME:VERSION."""

    name: str
    version: str

    @property
    def repository(self) -> str:
        """Of the registry."""
        return f"radserve/{self.name}"

    @property
    def tag(self) -> str:
        """What it is called without a registry."""
        return f"{self.repository}:{self.version}"


class Engine:
    """The program that holds the built images: docker, or buildah where no docker daemon answers."""

    def __init__(self, program: str) -> None:
        self.program = program

    @classmethod
    def find(cls) -> Self:
        """Choose as `scripts/build-images` does.

        Raises
        ------
        RegistryError
            If there is none.
        """
        if (
            shutil.which("docker")
            and subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0
        ):
            return cls("docker")
        if shutil.which("buildah"):
            return cls("buildah")
        raise RegistryError("Neither a docker daemon answers nor is buildah installed; no image can be pushed.")

    def login(self, host: str, user: str, password: str) -> None:
        """Log in; the password goes through a pipe, not through the list of processes."""
        self._run("login", "--username", user, "--password-stdin", host, text=password)

    def push(self, image: Image, target: str) -> None:
        """Tag an image as `target` and push it."""
        self._run("tag", image.tag, target)
        self._run("push", target)

    def _run(self, *words: str, text: str = "") -> None:
        done = subprocess.run([self.program, *words], input=text, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            said = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
            raise RegistryError(f"'{self.program} {words[0]}' failed: {said[0]}")


def prepare(ecr: ECRClient, repository: str) -> bool:
    """Make sure that a repository exists, scans what is pushed, and never changes a tag.

    Returns
    -------
    Whether it was created.
    """
    try:
        ecr.describe_repositories(repositoryNames=[repository])
    except ecr.exceptions.RepositoryNotFoundException:
        ecr.create_repository(
            repositoryName=repository,
            imageTagMutability="IMMUTABLE",
            imageScanningConfiguration={"scanOnPush": True},
        )
        return True
    ecr.put_image_tag_mutability(repositoryName=repository, imageTagMutability="IMMUTABLE")
    ecr.put_image_scanning_configuration(repositoryName=repository, imageScanningConfiguration={"scanOnPush": True})
    return False


def is_pushed(ecr: ECRClient, image: Image) -> bool:
    """Say whether the registry has this version; its tag then stands for other bytes, or the same ones."""
    try:
        ecr.describe_images(repositoryName=image.repository, imageIds=[{"imageTag": image.version}])
    except ecr.exceptions.ImageNotFoundException:
        return False
    return True


def credentials(ecr: ECRClient) -> tuple[str, str]:
    """Get the user and password that ECR gives for twelve hours."""
    (data,) = ecr.get_authorization_token()["authorizationData"]
    user, _, password = base64.b64decode(data["authorizationToken"]).decode().partition(":")
    return user, password


def push(ecr: ECRClient, engine: Engine, host: str, images: Sequence[Image]) -> None:
    """Push images; repositories that are missing are made.

    Raises
    ------
    RegistryError
        If a version is there already, before anything is pushed, or if the engine fails.
    """
    for image in images:
        prepare(ecr, image.repository)
        if is_pushed(ecr, image):
            raise RegistryError(
                f"{host}/{image.tag} exists, and tags never change; raise the version in pyproject.toml and build anew."
            )
    engine.login(host, *credentials(ecr))
    for image in images:
        engine.push(image, f"{host}/{image.tag}")


def version() -> str:
    """Return the version that `scripts/build-images` gives its images."""
    project = tomllib.loads((_ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return str(project["version"])


def main(
    registry: Annotated[str, typer.Argument(help="ACCOUNT.dkr.ecr.REGION.amazonaws.com")],
    targets: Annotated[list[str] | None, typer.Argument(help="server, server-cpu; server if none is named.")] = None,
) -> None:
    """Push images that scripts/build-images built to ECR."""
    import boto3

    try:
        found = Registry.parse(registry)
        images = [Image(name, version()) for name in targets or ["server"]]
        push(boto3.client("ecr", region_name=found.region), Engine.find(), found.host, images)
    except RegistryError as error:
        typer.echo(f"push-images: {error}", err=True)
        raise typer.Exit(1) from error
    for image in images:
        typer.echo(f"{found.host}/{image.tag}")


if __name__ == "__main__":
    typer.run(main)

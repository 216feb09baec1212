"""Runs an archive in this process, without TorchServe, with the responses that TorchServe would send."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from handlers import engine
from handlers.recipe import Recipe
from handlers.response import Response
from handlers.tracing import Tracer
from radserve.build import mar, model_store
from radserve.build.model_store import Entry
from radserve.errors import ArchiveError
from radserve.host.batch_context import BatchContext

if TYPE_CHECKING:
    from collections.abc import Iterator

    from handlers.domain.assessment import Mode
    from handlers.torchserve_handler import TorchServeHandler

_CONFIGURATION: Final = "model-config.yaml"


@dataclass(frozen=True)
class Request:
    """One request: its body, and its headers by lower-case name."""

    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


class InProcessModel:
    """Runs one archive; it must match the index of its folder, and its code must be the installed one.

    Parameters
    ----------
    path
        The archive (.mar).
    device
        `cpu` or `cuda`.
    batch
        Number of images that the network gets at once; that of the archive by default.
    max_response
        Maximum number of bytes of one response.
    domain
        What happens to images unlike the training images; by default what the environment says, as for a worker.

    Raises
    ------
    ArchiveError
        The archive is damaged, or differs from its index or the installed code.
    ProgramError
        It does not reproduce the prediction that is stored for its sample.
    """

    def __init__(
        self,
        path: Path,
        *,
        device: str = "cpu",
        batch: int | None = None,
        max_response: int | None = None,
        domain: "Mode | None" = None,
    ) -> None:
        self.path = path.resolve()  # the index lists files, not links to them
        self.entry, self.recipe = verify(self.path)
        with _unpacked(self.path, self.recipe) as folder:
            self.batch = batch or int(yaml.safe_load((folder / _CONFIGURATION).read_bytes())["batchSize"])
            self.service = _load(folder, self.recipe, device, self.batch, domain)
        self.service.model = replace(self.service.model, sha256=self.entry.sha256)
        if max_response is not None:
            self.service.max_response = max_response
        self.service.tracer = Tracer.create("radserve-worker")

    @property
    def is_lost(self) -> bool:
        """Whether the accelerator failed; the process then ends within a second."""
        return self.service.lost

    def respond(self, requests: Sequence[Request]) -> list[Response]:
        """Respond to a batch of requests."""
        context = BatchContext([request.headers for request in requests])
        bodies = self.service.handle([{"body": request.body} for request in requests], context)
        return [Response(*item) for item in context.responses(bodies)]

    def close(self) -> None:
        """Send the remaining traces."""
        self.service.tracer.close()


def verify(path: Path) -> tuple[Entry, Recipe]:
    """Check an archive against the index in its folder, or against its own manifest without an index."""
    if not path.is_file():
        raise ArchiveError(f"{path}: file not found.")
    listed = model_store.read(path.parent).archives
    entry = next((item for item in listed if item.file == path.name), None)
    if entry is None and listed:
        raise ArchiveError(f"{path}: missing in the index of its folder; take both from the same store.")
    entry = entry or _entry_from_manifest(path)
    return entry, mar.verify(entry, path.parent)


def _entry_from_manifest(path: Path) -> Entry:
    fields: dict[str, Any] = mar.manifest(path) | {"file": path.name, "inputs": ""}
    return Entry.model_construct(**fields, sha256=model_store.sha256(path), size=path.stat().st_size)


@contextmanager
def _unpacked(path: Path, recipe: Recipe) -> "Iterator[Path]":
    """Unpack what a model needs of an archive of this release."""
    from handlers.torchserve_handler import SAMPLE_PREDICTION

    detector = () if recipe.detector is None else (recipe.detector.file,)
    with tempfile.TemporaryDirectory(prefix="radserve-archive-") as name, mar.opened(path) as archive:
        mar.require_same_code(archive, path)
        read = ("archive.yaml", _CONFIGURATION, *engine.members(recipe), SAMPLE_PREDICTION, recipe.sample, *detector)
        for member in read:
            archive.extract(member, name)
        yield Path(name)


def _load(folder: Path, recipe: Recipe, device: str, batch: int, mode: "Mode | None") -> "TorchServeHandler":
    """Load an unpacked archive and verify its sample's prediction, like a worker of TorchServe."""
    from handlers.classification import Classification
    from handlers.segmentation import Segmentation
    from handlers.torchserve_handler import SAMPLE_PREDICTION

    service: TorchServeHandler = {"classification": Classification, "segmentation": Segmentation}[recipe.task]()
    service.load(folder, device, batch, mode)
    stored = json.loads((folder / SAMPLE_PREDICTION).read_bytes())
    for size in (1, batch):
        for prediction in service.predict_sample(folder, size):
            service.verify_sample(prediction, stored)
    return service

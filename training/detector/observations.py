"""Evidence of many images, collected as the server does."""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

import numpy as np
import torch

from handlers.domain import evidence, pose
from handlers.domain.evidence import Vector
from handlers.formats import decode
from handlers.preprocess import at_least, preprocess
from handlers.recipe import Input
from training.networks import moments

Network = Callable[[torch.Tensor], dict[str, torch.Tensor]]
"""A network with the output `moments`."""
_BATCH: Final = 16


@dataclass(frozen=True)
class Observations:
    """Evidence of N images."""

    parts: dict[str, torch.Tensor]  # part -> (N, numbers)
    thumbnails: torch.Tensor  # gray values in [0, 1], (N, pose.SIDE, pose.SIDE)
    confidence: torch.Tensor  # (N,), largest probability without calibration; of a mask, the mean over pixels

    def __len__(self) -> int:
        return len(self.thumbnails)

    def rows(self, part: slice | torch.Tensor) -> "Observations":
        """Return some of the images."""
        parts = {name: values[part] for name, values in self.parts.items()}
        return Observations(parts, self.thumbnails[part], self.confidence[part])


def join(several: Sequence[Observations]) -> Observations:
    """Concatenate observations."""
    return Observations(
        {name: torch.cat([each.parts[name] for each in several]) for name in several[0].parts},
        torch.cat([each.thumbnails for each in several]),
        torch.cat([each.confidence for each in several]),
    )


def observe(
    network: Network | None, spec: Input, images: Iterable[bytes], names: Collection[str] = evidence.ALL
) -> Observations:
    """Decode, preprocess and run encoded images, a few at a time, and collect the named parts of the evidence.

    Without a network, no image has a confidence.
    """
    batches: list[Observations] = []
    waiting = iter(images)
    while batch := list(islice(waiting, _BATCH)):
        tensors = [preprocess(decode.decode(data, at_least=at_least(spec)), spec) for data in batch]
        outputs: dict[str, torch.Tensor] = {}
        if network is not None:
            with torch.inference_mode():
                outputs = network(torch.from_numpy(np.stack(tensors)))
        pictures = [evidence.intensities(tensor, spec) for tensor in tensors]
        grays = [evidence.luminance(picture) for picture in pictures]
        features = outputs[moments.OUTPUT].numpy() if moments.OUTPUT in outputs else [None] * len(grays)
        rows = [evidence.collect(row, picture, names) for row, picture in zip(features, pictures, strict=True)]
        batches.append(
            Observations(
                {name: torch.stack([row[name] for row in rows]) for name in rows[0]},
                torch.stack([evidence.thumbnail(gray, pose.SIDE) for gray in grays]),
                _confidence(outputs["logits"]) if outputs else torch.full((len(grays),), torch.nan),
            )
        )
    return join(batches)


def serve(network: Network | None, spec: Input, data: bytes) -> tuple[dict[str, Vector], Vector]:
    """Return the network's outputs for an encoded image (none without a network), and the network's input."""
    tensor = preprocess(decode.decode(data, at_least=at_least(spec)), spec)
    if network is None:
        return {}, tensor
    with torch.inference_mode():
        outputs = network(torch.from_numpy(tensor[None]))
    return {name: values[0].numpy() for name, values in outputs.items()}, tensor


def _confidence(logits: torch.Tensor) -> torch.Tensor:
    wide = torch.cat([torch.zeros_like(logits), logits], 1) if logits.shape[1] == 1 else logits
    return torch.softmax(wide, 1).amax(1).flatten(1).mean(1) if wide.ndim == 4 else torch.softmax(wide, 1).amax(1)

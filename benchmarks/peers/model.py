"""The model that the peers of RadServe serve: an archive's program, with our code around it or with usual code."""

import os
import tempfile
import zipfile
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from PIL import Image

from handlers import recipe as recipes
from handlers.classification import Classification
from handlers.errors import RequestError
from handlers.pipeline import Result
from handlers.program import Program
from handlers.threshold import decide
from radserve.build.in_process import InProcessModel

Code = str
"""`plain`: Pillow, torch and softmax, as people write it. `ours`: our decoder, preprocessing, runtime and decision.
`checked`: that with the domain check and the prediction document, all that RadServe does for an image."""
ARCHIVE: Final = "RADSERVE_PEER_ARCHIVE"
CODE: Final = "RADSERVE_PEER_CODE"


class Model:
    """Predicts batches of encoded images."""

    def __init__(self, archive: Path, code: Code) -> None:
        torch.set_num_threads(1)
        self._code = code
        if code == "plain":
            with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(archive) as packed:
                for member in ("archive.yaml", "program.pt2"):
                    packed.extract(member, folder)
                self._recipe = recipes.load(Path(folder) / "archive.yaml")
                self._program = Program(Path(folder) / "program.pt2")
            return
        service = InProcessModel(archive, domain="warn" if code == "checked" else "off").service
        assert isinstance(service, Classification)
        self._service, self._recipe = service, service.recipe

    @classmethod
    def of_environment(cls) -> "Model":
        """Create the model that the environment of a peer's process names."""
        return cls(Path(os.environ[ARCHIVE]), os.environ[CODE])

    def __call__(self, bodies: Sequence[bytes]) -> list[dict[str, Any]]:
        """Predict one batch; the first error of an image is raised."""
        if self._code == "plain":
            return self._plain(bodies)
        if self._code == "ours":
            return self._ours(bodies)
        return [self._service.predict(_required(result)).document for result in self._service.pipeline(bodies)]

    def _plain(self, bodies: Sequence[bytes]) -> list[dict[str, Any]]:
        spec = self._recipe.input
        films = [Image.open(BytesIO(body)).convert("RGB").resize((spec.width, spec.height)) for body in bodies]
        batch = np.stack([np.asarray(film, np.float32).transpose(2, 0, 1) / 255 for film in films])
        mean, std = (np.asarray(values, np.float32)[:, None, None] for values in (spec.mean, spec.std))
        with torch.inference_mode():
            logits = self._program(torch.from_numpy((batch - mean) / std), outputs=("logits",))["logits"]
            rows = logits.softmax(1).tolist()
        return [{"probabilities": dict(zip(self._recipe.labels, row, strict=True))} for row in rows]

    def _ours(self, bodies: Sequence[bytes]) -> list[dict[str, Any]]:
        pipeline = self._service.pipeline
        batch = np.stack([pipeline.prepare(body).tensor for body in bodies])
        decisions = [decide(row, self._recipe) for row in pipeline.program.run(batch)["logits"]]
        return [{"label": decision.label, "probabilities": decision.probabilities} for decision in decisions]


def _required(result: Result | RequestError) -> Result:
    if isinstance(result, RequestError):
        raise result
    return result

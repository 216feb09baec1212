"""The model under TorchServe without RadServe; the handler file of an archive."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.peers.model import Model


class Handler:
    """Predicts batches."""

    def initialize(self, context: Any) -> None:  # noqa: ARG002 - TorchServe's name
        """Load the model."""
        self._model = Model.of_environment()

    def handle(self, data: Sequence[Mapping[str, Any]], context: Any) -> list[str]:  # noqa: ARG002
        """Predict one batch."""
        return [json.dumps(prediction) for prediction in self._model([bytes(item["body"]) for item in data])]

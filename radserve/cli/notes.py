"""Collects notes on the results of `radserve predict`, such as archives and prevalence."""

from collections import Counter

from radserve.cli.report import Outcome, Problem
from radserve.cli.terminal import counted, safe
from radserve.schema.percentage import percentage
from radserve.schema.prediction import ModelReference, Prediction


class Notes:
    """Archives, assumed prevalence, sentences about images, and attributes that are unknown."""

    def __init__(self) -> None:
        self._models: set[ModelReference] = set()
        self._prevalence: set[float] = set()
        self._sentences: Counter[str] = Counter()  # sentence -> images that it is about
        self._unchecked: Counter[str] = Counter()  # attribute -> images of which it is unknown

    def add(self, outcome: Outcome) -> None:
        """Note what a result rests on."""
        result = outcome.result
        if isinstance(result, Problem):
            return
        self._models.add(result.model)
        self._unchecked.update(result.unchecked)
        self._sentences.update(result.notes)
        if isinstance(result, Prediction):
            self._prevalence.update(filter(None, [result.prevalence]))
            self._sentences.update(filter(None, [result.contradiction]))

    def lines(self) -> list[str]:
        """Return the notes, without control characters."""
        lines = [
            f"{model.name} {model.version}, archive sha256 {model.sha256 or 'unknown'}"
            for model in sorted(self._models, key=lambda model: (model.name, model.version))
        ]
        lines += [
            f"The probabilities assume that {percentage(share)} of the images are positive."
            for share in sorted(self._prevalence)
        ]
        lines += [f"{sentence} ({counted(count, 'image')})" for sentence, count in self._sentences.items()]
        if self._unchecked:
            names = ", ".join(f"{name} ({count})" for name, count in self._unchecked.items())
            lines.append(f"Not checked, with the number of images: {names}")
        return [safe(line).plain for line in lines]

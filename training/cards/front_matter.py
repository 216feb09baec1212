"""Front matter of a model card: metadata in the format of Hugging Face's model cards, for catalogues.

Format: huggingface.co/docs/hub/model-cards and huggingface_hub's `ModelCardData`, which a test reads it with.
"""

from typing import Any, Final

import yaml

from handlers.recipe import Recipe
from training.cards import dataset_notes
from training.cards.markdown import metric_name
from training.metrics.report import Report

_PIPELINES: Final = {"classification": "image-classification", "segmentation": "image-segmentation"}


def render(recipe: Recipe, measured: Report | None, data: str, licence: str) -> str:
    """Return the front matter; results are those of the validation part, without a demonstration's.

    `licence` is that of the weights, as Hugging Face names it.
    """
    pipeline = _PIPELINES[recipe.task]
    values: dict[str, Any] = {
        "license": licence,
        "library_name": "pytorch",
        "pipeline_tag": pipeline,
        "tags": ["radserve", "not-a-medical-device", *(["non-commercial"] if "-nc-" in licence else [])],
    }
    if measured is not None and not measured.demonstration and measured.part == "validation":
        result = {
            "task": {"type": pipeline},
            "dataset": {"type": data, "name": dataset_notes.for_dataset(data).source, "split": "validation"},
            "metrics": [
                {"type": key, "name": metric_name(key), "value": metric.value}
                for key, metric in measured.validation.items()
                if metric.value is not None
            ],
        }
        values["model-index"] = [{"name": recipe.name, "results": [result]}]
    return f"---\n{yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=100)}---"

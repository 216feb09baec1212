"""Prediction documents of the API: those of the model server, and whether the history recorded them."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field

from radserve.schema.explanation import Explanation
from radserve.schema.history import HistoryState
from radserve.schema.prediction import Prediction
from radserve.schema.response import ResultList
from radserve.schema.segmentation import Segmentation


class _Recorded(BaseModel):
    history: Annotated[
        HistoryState, Field(description="`unavailable`: the history could not be reached, so nothing was recorded.")
    ]


class RecordedPrediction(Prediction, _Recorded):
    """Classification of one image."""


class RecordedSegmentation(Segmentation, _Recorded):
    """Segmentation of one image."""


class RecordedExplanation(Explanation, _Recorded):
    """Classification of one image, and the heat map that explains it."""


class RecordedResultList(ResultList, _Recorded):
    """Results for several images, in their order."""

"""JSON Schema of every document: `python -m radserve.schema.json_schema` writes it to standard output."""

import json
import sys
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from radserve.schema.catalog import Catalog
from radserve.schema.control import AuditLog, AuditVerification, ModelStatus, Registration, ServerStatus
from radserve.schema.deployment import Deployment, DeploymentDiff
from radserve.schema.explanation import Explanation
from radserve.schema.history import HistoryEntry, HistoryPage, StoredResult
from radserve.schema.prediction import Prediction
from radserve.schema.problem import ProblemDetails
from radserve.schema.response import ResultList
from radserve.schema.rollout import RolloutSpec, RolloutStatus
from radserve.schema.segmentation import Segmentation, Series

ROOTS: Final[tuple[type[BaseModel], ...]] = (
    AuditLog,
    AuditVerification,
    Catalog,
    Deployment,
    DeploymentDiff,
    Explanation,
    HistoryEntry,
    HistoryPage,
    ModelStatus,
    Prediction,
    ProblemDetails,
    Registration,
    ResultList,
    RolloutSpec,
    RolloutStatus,
    Segmentation,
    Series,
    ServerStatus,
    StoredResult,
)
"""Documents that are a whole request or response body."""


def json_schema() -> dict[str, Any]:
    """Return one JSON Schema (2020-12) with a definition `#/$defs/NAME` for every document and its parts."""
    _, schema = models_json_schema(
        [(root, "validation") for root in ROOTS], title="RadServe documents", description=_DESCRIPTION
    )
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | schema


_DESCRIPTION: Final = (
    "Structure of all documents. The models in radserve.schema check more: that a label is among the probabilities, "
    "that probabilities sum to 1, that area, box and mask agree."
)


if __name__ == "__main__":
    json.dump(json_schema(), sys.stdout, indent=1)
    sys.stdout.write("\n")

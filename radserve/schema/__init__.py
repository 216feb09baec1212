"""Documents that cross a boundary, as immutable pydantic models.

A model accepts only a consistent document: a label that is among the probabilities, a mask with the size of its image,
a box around exactly the marked pixels. Unknown keys are ignored, so that an older client reads a newer server.
"""

from radserve.schema.catalog import Catalog, CatalogModel, CatalogVersion, InputSize
from radserve.schema.control import (
    AuditEntry,
    AuditLog,
    ModelStatus,
    Registration,
    ServerStatus,
    VersionStatus,
    WorkerCount,
)
from radserve.schema.deployment import Change, DeployedModel, DeployedVersion, Deployment, DeploymentDiff
from radserve.schema.explanation import Explanation, HeatMap
from radserve.schema.history import HistoryEntry, HistoryPage, HistoryState
from radserve.schema.prediction import PROBABILITY_SUM_TOLERANCE, Image, ImageResult, ModelReference, Prediction
from radserve.schema.problem import ProblemDetails, RejectedImage
from radserve.schema.response import AnyItem, AnyResult, ResultList
from radserve.schema.rollout import (
    Latency,
    RolloutSpec,
    RolloutStatus,
    ShadowExample,
    ShadowReport,
    TrafficSample,
)
from radserve.schema.segmentation import Area, Box, Mask, Segmentation, Series, Volume

__all__ = [
    "PROBABILITY_SUM_TOLERANCE",
    "AnyItem",
    "AnyResult",
    "Area",
    "AuditEntry",
    "AuditLog",
    "Box",
    "Catalog",
    "CatalogModel",
    "CatalogVersion",
    "Change",
    "DeployedModel",
    "DeployedVersion",
    "Deployment",
    "DeploymentDiff",
    "Explanation",
    "HeatMap",
    "HistoryEntry",
    "HistoryPage",
    "HistoryState",
    "Image",
    "ImageResult",
    "InputSize",
    "Latency",
    "Mask",
    "ModelReference",
    "ModelStatus",
    "Prediction",
    "ProblemDetails",
    "Registration",
    "RejectedImage",
    "ResultList",
    "RolloutSpec",
    "RolloutStatus",
    "Segmentation",
    "Series",
    "ServerStatus",
    "ShadowExample",
    "ShadowReport",
    "TrafficSample",
    "VersionStatus",
    "Volume",
    "WorkerCount",
]

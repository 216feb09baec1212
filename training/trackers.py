"""Experiment trackers: TensorBoard, Weights & Biases, MLflow, or none."""

import os
from pathlib import Path
from typing import Literal

from lightning.pytorch.loggers import Logger

Tracker = Literal["tensorboard", "wandb", "mlflow", "none"]


def logger(tracker: Tracker, name: str, out: Path, *, online: bool = False) -> Logger | bool:
    """Create the Lightning logger of a run, which writes below its result folder.

    The name of the model becomes the project or experiment. Weights & Biases uploads only `online`, with its own login
    and environment variables. MLflow follows MLFLOW_TRACKING_URI if that is set.
    """
    match tracker:
        case "tensorboard":
            from lightning.pytorch.loggers import TensorBoardLogger

            return TensorBoardLogger(out, name="tensorboard", version="")
        case "wandb":
            if not online:
                os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
            from lightning.pytorch.loggers import WandbLogger

            return WandbLogger(name=out.name, project=name, save_dir=out, offline=not online)
        case "mlflow":
            # MLflow would report every run to its vendor.
            os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
            from lightning.pytorch.loggers import MLFlowLogger

            uri = os.environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{out.resolve() / 'mlflow.db'}")
            return MLFlowLogger(
                experiment_name=name, run_name=out.name, tracking_uri=uri, artifact_location=str(out / "mlflow")
            )
        case "none":
            return False

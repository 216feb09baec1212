"""An archive with a detector, fitted to synthetic films."""

import hashlib
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import save_file

from handlers import recipe
from handlers.domain.detector import MOMENTS
from radserve.build.export import export
from tests.conftest import Brightness, brightness_recipe
from tests.handlers.test_pipeline import film
from training.detector import calibration, pose
from training.detector.cross_fit import Sample, Shape, fit_to, measured
from training.detector.observations import observe
from training.networks import moments
from training.settings import Augmentation

PARTS = ("features", "thumbnail", "texture")


def films(count: int = 60) -> list[bytes]:
    return [film(96 + index, 64 + index % 7, low=20 + index % 30, high=200 + index % 40) for index in range(count)]


@pytest.fixture(scope="session")
def fitted_archive(brightness_archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = Path(shutil.copytree(brightness_archive, tmp_path_factory.mktemp("fitted") / "archive"))
    network = moments.add(Brightness().eval(), ["conv"])
    assert moments.OUTPUT == MOMENTS
    export(network, (3, 16, 24), folder / "program.pt2")
    spec = recipe.load(folder / "archive.yaml").input
    seen = observe(network, spec, films())
    groups = tuple(str(row) for row in range(len(seen)))
    sample = Sample(seen, torch.zeros(len(seen), dtype=torch.long), groups)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pose, "_STEPS", 150)
        tensors = fit_to(sample, Shape(dict.fromkeys(PARTS, 3), Augmentation(), seed=1, labels=1, each=1))
    held_out = measured([(tensors, seen)], groups, PARTS)
    tensors["pose.accepted"] = held_out.accepted
    limits = calibration.calibrate(held_out.distances, groups)
    tensors |= {f"limit.{name}": torch.tensor(2 * value) for name, value in limits.each.items()}
    tensors["percentiles"] = torch.from_numpy(limits.percentiles).float() / 2
    save_file({name: value.contiguous() for name, value in tensors.items()}, folder / "detector.safetensors")
    section = {
        "file": "detector.safetensors",
        "sha256": hashlib.sha256((folder / "detector.safetensors").read_bytes()).hexdigest(),
        "method": "as in training.detector",
        "layers": ["conv"],
        "parts": list(PARTS),
        "marked": 1.0,
        "refused": 1.5,
        "fitted": "synthetic films",
        "split": "0" * 64,
    }
    (folder / "archive.yaml").write_text(yaml.safe_dump(brightness_recipe() | {"detector": section}), encoding="utf-8")
    return folder

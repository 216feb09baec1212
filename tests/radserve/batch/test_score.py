"""`radserve score` without Ray: plan, rows, receipts, verification."""

from pathlib import Path

import pytest

from tests import command_line
from tests.radserve.batch.conftest import table

OPTIONS = ("--model", "brightness", "--workers", "1", "--shard-size", "4")


def score(*arguments: object, code: int = 0) -> str:
    result = command_line.run("score", *arguments)
    assert result.returncode == code, result.stdout + result.stderr
    return result.stdout + result.stderr


def test_each_image_has_one_row_with_its_prediction_or_the_reason(models: Path, images: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    text = score(images, output, "--model-store", models, *OPTIONS)
    assert "15 images scored" in text
    assert "12 results, 3 without" in text
    rows = {Path(row["file"]).relative_to(images).as_posix(): row for row in table(output)}
    assert len(rows) == len(table(output)) == 15
    assert {row["model_sha256"] for row in rows.values()} == {rows["000.png"]["model_sha256"]}
    print(rows["000.png"], rows["broken.png"], rows["empty.dcm"])
    assert "15 of 15 images have exactly one row" in score("--verify", output)

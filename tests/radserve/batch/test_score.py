"""`radserve score` without Ray: plan, rows, receipts, verification."""

import csv
import json
import shutil
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pydicom
import pytest
from pyarrow import parquet
from pydicom.fileset import FileSet

from radserve.batch import shard as shards
from radserve.batch.shard import Job
from tests import command_line
from tests.handlers.images import dicom, saved
from tests.radserve.batch.conftest import table
from tests.radserve.store.conftest import Aws
from tests.spots import figure, packed, painted


def score(*arguments: object, code: int = 0) -> str:
    result = command_line.run("score", *arguments)
    assert result.returncode == code, result.stdout + result.stderr
    return result.stdout + result.stderr


@pytest.fixture
def options(models: Path) -> tuple[object, ...]:
    return "--model", "brightness", "--model-store", models, "--workers", "1", "--shard-size", "4"


Options = tuple[object, ...]


@pytest.fixture
def output(images: Path, tmp_path: Path, options: Options) -> Path:
    """Score the images."""
    assert "15 images scored" in score(images, tmp_path / "out", *options)
    return tmp_path / "out"


def test_each_image_has_one_row_with_its_prediction_or_the_reason(images: Path, output: Path) -> None:
    rows = {Path(row["file"]).relative_to(images).as_posix(): row for row in table(output)}
    assert len(rows) == len(table(output)) == 15
    film = rows["000.png"]
    document = json.loads(film["document"])
    assert (film["status"], film["label"], film["probability"]) == (200, document["label"], document["probability"])
    assert film["image_sha256"] == document["image"]["sha256"]
    assert {row["model_sha256"] for row in rows.values()} == {document["model"]["sha256"]}
    problems = {name: (row["status"], row["problem"].partition(":")[0]) for name, row in rows.items() if row["problem"]}
    assert problems == {
        "broken.png": (400, "Unreadable image"),
        "empty.dcm": (400, "Unreadable image"),
        "sub/text.jpg": (415, "Unsupported media type"),
    }
    assert "15 of 15 images have exactly one row of brightness 1.1.0" in score("--verify", output)


def test_the_output_of_other_images_options_or_another_archive_is_refused(
    images: Path, output: Path, options: Options, tmp_path: Path
) -> None:
    assert "archive brightness 1.1.0" in score(images, output, *options, "--version", "1.0.0", code=2)
    assert "masks False, not True" in score(images, output, *options, "--masks", code=2)
    assert "has results already" in score(images, output, *options, "--no-resume", code=2)
    others = shutil.copytree(images, tmp_path / "others")
    assert "another list of images" in score(others, output, *options, code=2)
    assert "15 of 15 images have a row already" in score(images, output, *options[:-2])


def test_verification_finds_missing_duplicate_and_damaged_rows(output: Path) -> None:
    first, second, third, _ = sorted((output / "results").iterdir())
    shutil.copy(first, output / "results" / "again.parquet")
    rows = parquet.read_table(second)
    parquet.write_table(pa.concat_tables([rows.slice(0, 3), rows.slice(0, 1)]), second)
    third.write_bytes(third.read_bytes()[:-9])
    (output / "receipts" / "part-00003.json").unlink()
    text = score("--verify", output, code=1)
    for defect in (
        "part-00001.parquet: 1 rows missing",
        "part-00001.parquet: 1 rows duplicate",
        "part-00002.parquet: cannot be read",
        "receipts/part-00003.json: missing",
        "again.parquet: not in the plan",
        "4 of 15 images have exactly one row",
    ):
        assert defect in text


def test_a_worker_that_died_before_its_receipt_leaves_rows_that_are_kept(
    images: Path, output: Path, options: Options
) -> None:
    kept, damaged = (output / "results" / f"part-0000{index}.parquet" for index in range(2))
    inode, content = kept.stat().st_ino, damaged.read_bytes()
    for index in range(2):
        (output / "receipts" / f"part-0000{index}.json").unlink()
    damaged.write_bytes(content[:100])
    assert "8 images scored" in score(images, output, *options)
    assert kept.stat().st_ino == inode
    assert damaged.read_bytes() == content
    score("--verify", output)


def test_jobs_of_an_array_score_their_shards_without_ray(
    images: Path, tmp_path: Path, options: Options, models: Path
) -> None:
    output = tmp_path / "out"
    assert score(images, output, *options, "--plan") == "4\n"
    score(images, output, *options, "--shard", "2")
    assert [path.name for path in (output / "results").iterdir()] == ["part-00002.parquet"]
    assert "the plan has shards 0 to 3" in score(images, output, *options, "--shard", "4", code=2)
    job = Job(str(output), models / "brightness-1.1.0.mar")
    assert [shards.run(job, index).rows for index in range(4)] == [4, 4, 4, 3]
    score("--verify", output)


def test_a_bucket_is_scored_into_a_bucket_with_conditional_writes(aws: Aws, images: Path, options: Options) -> None:
    s3 = aws.client("s3")
    for path in sorted(images.rglob("*.*")):
        s3.put_object(Bucket=aws.bucket, Key=f"films/{path.relative_to(images)}", Body=path.read_bytes())
    source, output = f"s3://{aws.bucket}/films", f"s3://{aws.bucket}/scores/today"
    aws.fail({"do": "500", "method": "GET", "every": 7})
    assert "12 results, 3 without" in score(source, output, *options)
    assert "15 of 15" in score("--verify", output)
    s3.delete_object(Bucket=aws.bucket, Key="scores/today/receipts/part-00001.json")
    assert "11 of 15 images have a row already" in score(source, output, *options)
    listed = s3.list_objects_v2(Bucket=aws.bucket, Prefix="scores/today/")["Contents"]
    assert len(listed) == 4 + 4 + 2


def test_a_manifest_lists_paths_and_objects_in_a_column(
    aws: Aws, images: Path, tmp_path: Path, options: Options
) -> None:
    shutil.copy(images / "000.png", tmp_path / "here.png")
    aws.client("s3").put_object(Bucket=aws.bucket, Key="there.png", Body=(images / "001.png").read_bytes())
    names = ["here.png", "./here.png", str(images / "002.png"), f"s3://{aws.bucket}/there.png", "gone.png"]
    names += [f"s3://{aws.bucket}/gone.png"]
    with (tmp_path / "list.csv").open("w") as file:
        csv.writer(file).writerows([["id", "film"], *enumerate(names)])
    parquet.write_table(pa.table({"film": names}), tmp_path / "list.parquet")
    for manifest in ("list.csv", "list.parquet"):
        output = tmp_path / manifest.partition(".")[2]
        assert "3 results, 2 without" in score(tmp_path / manifest, output, *options, "--column", "film")
        problems = [row["problem"] for row in table(output) if row["problem"]]
        assert problems == ["Unreadable file: No such file or directory.", "Unreadable file: No such object."]
    assert "no column 'path'" in score(tmp_path / "list.csv", tmp_path / "none", *options, code=2)


def test_a_dicomdir_lists_its_images(tmp_path: Path, options: Options) -> None:
    files = FileSet()
    for number in range(3):
        pixels = np.tile(np.arange(48, dtype=np.uint8) * (number + 2), (32, 1))
        uids: dict[str, Any] = {
            "StudyInstanceUID": "1.2.3",
            "SeriesInstanceUID": "1.2.3.4",
            "SOPInstanceUID": f"1.2.3.4.{number + 1}",
        }
        times: dict[str, Any] = {"StudyDate": "20200101", "StudyTime": "120000", "StudyID": "1"}
        content = dicom(pixels, SeriesNumber=1, InstanceNumber=number + 1, **uids, **times)
        files.add(pydicom.dcmread(BytesIO(content)))
    files.write(tmp_path / "disc")
    files._stage["t"].cleanup()  # otherwise its temporary folder is reported as lost
    (tmp_path / "disc" / "unlisted.dcm").write_bytes(b"")
    assert "3 images scored" in score(tmp_path / "disc" / "DICOMDIR", tmp_path / "out", *options)


def test_masks_are_files_that_the_rows_name(tmp_path: Path) -> None:
    packed(tmp_path / "store", tmp_path)
    folder = tmp_path / "slices"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.png").write_bytes(saved(painted(figure(40, 50 + number)), "PNG"))
    output = tmp_path / "out"
    score(folder, output, "--model", "spots", "--model-store", tmp_path / "store", "--workers", "1", "--masks")
    rows = table(output)
    assert [row["mask"] for row in rows] == [f"masks/part-00000/0000{number}.png" for number in range(3)]
    assert all((output / row["mask"]).read_bytes().startswith(b"\x89PNG") for row in rows)
    assert all("mask" not in json.loads(row["document"]) and row["area_pixels"] > 0 for row in rows)
    score("--verify", output)
    (output / rows[0]["mask"]).unlink()
    assert "masks/part-00000/00000.png: missing" in score("--verify", output, code=1)

"""`radserve score` without Ray: plan, rows, receipts, verification."""

import csv
import errno
import json
import os
import shutil
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pydicom
import pytest
import torch
from pyarrow import parquet
from pydicom.fileset import FileSet

from handlers.formats.image import Image
from handlers.preprocess import preprocess
from handlers.recipe import Input
from radserve.batch import rows
from radserve.batch import shard as shards
from radserve.batch.shard import Job
from radserve.build.in_process import InProcessModel
from radserve.errors import ShardError
from tests import command_line
from tests.handlers.images import dicom, saved
from tests.radserve.batch.conftest import table
from tests.radserve.store.conftest import Aws
from tests.spots import figure, packed, painted


def fail(code: int) -> rows.Read:
    """Return a function that reads nothing."""

    def read(name: str, limit: int) -> bytes:
        raise OSError(code, os.strerror(code))

    return read


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
    assert "has results of another job (input " in score(others, output, *options, code=2)
    assert "has results of another job (input " in score(others, output, *options, "--shard", "0", code=2)
    assert "15 of 15 images have a row already" in score(images, output, *options[:-2])


def test_verification_finds_missing_duplicate_and_damaged_rows(images: Path, output: Path, options: Options) -> None:
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
        "receipts/part-00003.json: missing or damaged; delete results/part-00003.parquet and receipts/part-00003.json",
        "again.parquet: not in the plan",
        "4 of 15 images have exactly one row",
    ):
        assert defect in text
    (output / "results" / "again.parquet").unlink()
    assert "4 of 15 images have a row already" in score(images, output, *options)
    score("--verify", output)


def test_a_shard_whose_rows_or_receipt_are_lost_or_damaged_is_completed_by_the_next_call(
    images: Path, output: Path, options: Options
) -> None:
    (output / "results" / "part-00001.parquet").unlink()
    truncated = output / "results" / "part-00002.parquet"
    truncated.write_bytes(truncated.read_bytes()[:-9])
    (output / "receipts" / "part-00003.json").write_text("{")
    assert "4 of 15 images have a row already" in score(images, output, *options)
    assert "15 of 15" in score("--verify", output)


def test_a_shard_whose_input_is_not_mounted_fails_and_is_scored_later(
    images: Path, tmp_path: Path, options: Options
) -> None:
    films, output = shutil.copytree(images, tmp_path / "films"), tmp_path / "out"
    score(films, output, *options, "--plan")
    films.rename(tmp_path / "elsewhere")
    assert "missing or empty; mount or restore it" in score(films, output, *options, "--shard", "0", code=1)
    films.mkdir()
    assert "missing or empty; mount or restore it" in score(films, output, *options, "--shard", "0", code=1)
    assert not (output / "results").exists()
    films.rmdir()
    (tmp_path / "elsewhere").rename(films)
    assert "12 analysed, 3 failed" in score(films, output, *options)


def test_a_machine_that_fails_to_read_fails_the_shard(models: Path) -> None:
    model = InProcessModel(models / "brightness-1.1.0.mar", domain="off")
    for code in (errno.EMFILE, errno.EIO, errno.ESTALE, errno.ENOMEM):
        with pytest.raises(ShardError, match="cannot be read"):
            list(rows.score(model, ["a.png"], fail(code)))
    for code in (errno.ENOENT, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EACCES):
        (row,) = rows.score(model, ["a.png"], fail(code))
        assert row.cells["problem"] == f"Unreadable file: {os.strerror(code)}."


def test_a_model_that_fails_fails_the_shard_without_a_receipt(
    images: Path, tmp_path: Path, options: Options, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out"
    score(images, output, *options, "--plan")
    job = Job(str(output), models / "brightness-1.1.0.mar")
    job.model.service.seconds = -1.0  # no time for any image: 503
    monkeypatch.setattr(rows, "_PAUSES", (0.0, 0.1))
    with pytest.raises(ShardError, match="the model fails \\(503 "):
        shards.run(job, 0)
    assert {path.name for path in output.iterdir() if path.is_dir()} == set()
    job.model.service.seconds = float("inf")
    assert shards.run(job, 0).receipt.rows == 4


def test_an_image_on_which_the_model_always_fails_has_a_row_beside_its_neighbours(
    images: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = {name: (images / name).read_bytes() for name in ("000.png", "001.png")}
    model = InProcessModel(models / "brightness-1.1.0.mar")
    poison = model.service.pipeline.prepare(contents["000.png"]).tensor.mean()

    def fail_on_poison(image: Image, spec: Input) -> Any:
        tensor = preprocess(image, spec)
        if tensor.mean() == poison:
            raise ZeroDivisionError
        return tensor

    monkeypatch.setattr("handlers.pipeline.preprocess", fail_on_poison)
    monkeypatch.setattr(rows, "_PAUSES", (0.0,))
    first, second = rows.score(model, list(contents), lambda name, _: contents[name])
    assert first.cells["status"] == 500
    assert "The server failed while preparing this image" in first.cells["problem"]
    assert second.cells["status"] == 200


def test_a_plan_that_was_killed_before_its_end_allows_another_shard_size(
    images: Path, output: Path, options: Options
) -> None:
    (output / "plan.json").unlink()
    shutil.rmtree(output / "results")
    shutil.rmtree(output / "receipts")
    assert "15 images scored" in score(images, output, *options[:-1], "6")
    score("--verify", output)
    plan = (output / "plan.json").read_text()
    (output / "plan.json").write_text(plan.replace('"format": 2', '"format": 1'))
    assert "made by another release. Start a new OUTPUT folder." in score("--verify", output, code=2)


def test_a_job_keeps_its_list_when_images_are_added_or_removed(images: Path, tmp_path: Path, options: Options) -> None:
    films, output = shutil.copytree(images, tmp_path / "films"), tmp_path / "out"
    score(films, output, *options, "--plan")
    score(films, output, *options, "--shard", "0")
    shutil.copy(films / "000.png", films / "0000.png")
    (films / "011.png").unlink()
    text = score(films, output, *options)
    assert "1 image is new and not part of this job" in text
    assert "11 images scored" in text
    problems = {Path(row["file"]).name: row["problem"] for row in table(output)}
    assert problems["011.png"] == "Unreadable file: No such file or directory."
    assert "0000.png" not in problems


def test_linked_folders_and_links_to_nothing_are_part_of_a_folder(
    images: Path, tmp_path: Path, options: Options
) -> None:
    folder, other = tmp_path / "films", tmp_path / "other"
    (folder / "deep").mkdir(parents=True)
    (folder / ".store").mkdir()
    other.mkdir()
    for number, place in enumerate((folder, folder / "deep", folder / ".store", other)):
        shutil.copy(images / f"00{number}.png", place / f"{number}.png")
    for link, target in {
        "again": other,
        "another": other,
        "deep/up": folder,
        "top": tmp_path,
        "inside": folder / "deep",
        "hidden": folder / ".store",
        "gone.png": tmp_path / "none",
        "self.png": folder / "self.png",
    }.items():
        (folder / link).symlink_to(target)
    os.mkfifo(folder / "pipe.png")
    assert "4 analysed, 2 failed" in score(folder, tmp_path / "out", *options)
    names = sorted(Path(row["file"]).relative_to(folder).as_posix() for row in table(tmp_path / "out"))
    assert names == ["0.png", "again/3.png", "deep/1.png", "gone.png", "hidden/2.png", "self.png"]


@pytest.mark.parametrize(
    ("source", "output", "extra", "message"),
    [
        ("films", "films/out", (), "OUTPUT is inside of INPUT"),
        ("films", "films/../films", (), "OUTPUT is inside of INPUT"),
        ("s3://films/in", "s3://films/in/out", (), "OUTPUT is inside of INPUT"),
        ("films", "file", (), "file/plan.json: Not a directory"),
        ("films", "/proc/none", (), "/proc/none: cannot be created"),
        ("films", "https://host/out", (), "use a folder or s3://BUCKET/PREFIX"),
        ("films", "out", ("--device", "tpu"), "'tpu' is not one of 'cpu', 'cuda'"),
        ("damaged.csv", "out", (), "no column 'path' that can be read"),
        ("damaged.parquet", "out", (), "no column 'path' that can be read"),
        ("\udcff", "out", (), "not valid UTF-8"),
        ("DICOMDIR", "out", (), "not a DICOMDIR"),
        ("empty.csv", "out", (), "no image found"),
    ],
)
def test_what_cannot_work_is_rejected_with_one_message(
    images: Path, tmp_path: Path, options: Options, source: str, output: str, extra: Options, message: str
) -> None:
    (tmp_path / "films").symlink_to(images)
    (tmp_path / "empty.csv").mkdir()
    for name in ("file", "damaged.csv", "damaged.parquet", "DICOMDIR"):
        (tmp_path / name).write_bytes(b"\xff")
    paths = [name if "://" in name else tmp_path / name for name in (source, output)]
    text = score(*paths, *options, *extra, code=2)
    assert message in " ".join(text.replace("\u2502", "").split())
    assert "Traceback" not in text


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_gpu_that_is_missing_is_reported(images: Path, tmp_path: Path, options: Options) -> None:
    assert "no GPU that PyTorch can use" in score(images, tmp_path / "out", *options, "--device", "cuda", code=2)


def test_a_damaged_list_or_an_output_that_is_a_file_is_reported_by_the_verification(output: Path) -> None:
    (list_file,) = output.glob("inputs-*.parquet")
    parquet.write_table(pa.table({"other": ["a"]}), list_file)
    assert "cannot be read" in score("--verify", output, code=2)
    assert "Not a directory" in score("--verify", list_file, code=2)


def test_entries_of_a_manifest_that_name_no_readable_file_have_a_row(
    aws: Aws, images: Path, tmp_path: Path, options: Options
) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    aws.client("s3").put_object(Bucket=aws.bucket, Key="there.png", Body=(images / "001.png").read_bytes())
    good = [f"S3://{aws.bucket}/there.png", f"file://{images}/000.png", f"{images}/sub/../002.png", f"{images}/002.png"]
    bad = ["s3://", "s3://bucket", "s3:///k", "https://host/a.png", "pipe.png", "/dev/zero", "."]
    (tmp_path / "list.csv").write_text("\n".join(["path", *good, *bad, f"s3://{aws.bucket}/a//b"]))
    assert "3 analysed, 8 failed" in score(tmp_path / "list.csv", tmp_path / "out", *options)
    assert "column path, not x" in score(
        tmp_path / "list.csv", tmp_path / "out", *options, "--column", "x", "--shard", "0", code=2
    )


def test_an_archive_of_images_has_one_row_that_says_so(images: Path, tmp_path: Path, options: Options) -> None:
    folder = tmp_path / "films"
    folder.mkdir()
    with zipfile.ZipFile(folder / "several", "w") as archive:
        for name in ("000.png", "001.png"):
            archive.write(images / name, name)
    assert "0 analysed, 1 failed" in score(folder, tmp_path / "out", *options)
    (row,) = table(tmp_path / "out")
    assert (row["status"], row["problem"]) == (415, "Several images: Give each image, or each frame, its own file.")


def test_access_that_is_denied_or_a_missing_bucket_fails_the_shard(
    aws: Aws, images: Path, tmp_path: Path, options: Options
) -> None:
    (tmp_path / "list.csv").write_text(f"path\ns3://{aws.bucket}-none/a.png\n{images}/000.png\n")
    assert "the bucket does not exist" in score(tmp_path / "list.csv", tmp_path / "out", *options, code=1)
    (tmp_path / "list.csv").write_text(f"path\ns3://{aws.bucket}/a.png\n{images}/000.png\n")
    aws.fail({"do": "403", "method": "GET"})
    assert "access denied" in score(tmp_path / "list.csv", tmp_path / "denied", *options, code=1)


def test_a_worker_that_died_before_its_receipt_leaves_rows_that_are_kept(
    images: Path, output: Path, options: Options
) -> None:
    kept, damaged = (output / "results" / f"part-0000{index}.parquet" for index in range(2))
    inode, content = kept.stat().st_ino, damaged.read_bytes()
    for index in range(2):
        (output / "receipts" / f"part-0000{index}.json").unlink()
    damaged.write_bytes(content[:100])
    assert "4 images scored" in score(images, output, *options)
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
    outcomes = [shards.run(job, index) for index in range(4)]
    assert [(outcome.receipt.rows, outcome.is_new) for outcome in outcomes] == [
        (4, True),
        (4, True),
        (4, False),
        (3, True),
    ]
    assert "4 images had a row already, from another call" in score(images, output, *options, "--shard", "2")
    score("--verify", output)


def test_a_bucket_is_scored_into_a_bucket_with_conditional_writes(aws: Aws, images: Path, options: Options) -> None:
    s3 = aws.client("s3")
    for path in sorted(images.rglob("*.*")):
        s3.put_object(Bucket=aws.bucket, Key=f"films/{path.relative_to(images)}", Body=path.read_bytes())
    source, output = f"s3://{aws.bucket}/films", f"s3://{aws.bucket}/scores/today"
    aws.fail({"do": "500", "method": "GET", "every": 7})
    assert "12 analysed, 3 failed" in score(source, output, *options)
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
        assert "3 analysed, 2 failed" in score(tmp_path / manifest, output, *options, "--column", "film")
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
    (output / rows[1]["mask"]).write_bytes(b"")
    assert "masks/part-00000/00000.png, and 1 more: missing or damaged; delete" in score("--verify", output, code=1)

"""The command line of `radserve store`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from radserve.build import mar, model_store
from tests.conftest import ROOT
from tests.radserve.store.archives import make
from tests.radserve.store.conftest import Aws, Pair, run


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """Create a model store with two versions of a model, another model, and an untrained one."""
    for name, version in (("chest", "1.0.0"), ("chest", "1.1.0"), ("brain", "1.0.0"), ("lenet", "0.0.0")):
        make(tmp_path / "here", name, version)
    return tmp_path / "here"


def test_push_and_pull_through_s3(aws: Aws, here: Path, tmp_path: Path, pair: Pair) -> None:
    signature = ("--store", aws.store, "--signing-key", pair.private)
    reading = ("--store", aws.store, "--public-key", pair.public)
    pushed = run("push", "--all", "--model-store", here, *signature)
    assert [line.split("  ")[:2] for line in pushed.stdout.splitlines()] == [
        ["brain 1.0.0", "pushed"],
        ["chest 1.0.0", "pushed"],
        ["chest 1.1.0", "pushed"],
    ]
    assert "lenet 0.0.0: skipped, it is untrained" in pushed.stderr
    again = run("push", "chest/1.0.0", "--model-store", here, *signature)
    assert "chest 1.0.0  already published with the same content" in again.stdout
    listed = run("list", *reading)
    assert "1.1.0" in listed.stdout
    assert "serial 3, signed by" in listed.stderr
    assert "(verified)" in listed.stderr
    assert "(not verified: no --public-key)" in run("list", "--store", aws.store).stderr
    there = tmp_path / "there"
    assert "chest 1.1.0  pulled" in run("pull", "chest", "--model-store", there, *reading).stdout
    assert "already in" in run("pull", "chest", "--model-store", there, *reading).stdout
    run("pull", "--all", "--model-store", there, *reading)
    assert len(model_store.read(there).archives) == 3
    verified = run("verify", "--model-store", there, *reading)
    assert verified.stdout.count("intact") == 6
    assert verified.stderr == ""


def test_json_output(here: Path, tmp_path: Path) -> None:
    url = str(tmp_path / "store")
    pushed = json.loads(run("push", "chest", "brain", "--store", url, "--model-store", here, "--json").stdout)
    assert [(item["name"], item["version"], item["status"]) for item in pushed["archives"]] == [
        ("chest", "1.1.0", "pushed"),
        ("brain", "1.0.0", "pushed"),
    ]
    there = tmp_path / "there"
    pulled = json.loads(run("pull", "chest", "--store", url, "--model-store", there, "--json").stdout)
    assert [(item["file"], item["status"]) for item in pulled["archives"]] == [("chest-1.1.0.mar", "pulled")]
    failed = json.loads(run("pull", "chest", "none", "--store", url, "--model-store", there, "--json", code=1).stdout)
    assert failed["archives"][0]["status"] == "unchanged"
    assert failed["failed"][0]["name"] == "none"
    listed = json.loads(run("list", "--store", url, "--json").stdout)
    assert (listed["serial"], listed["signed_by"], listed["verified_by"]) == (2, [], None)
    assert [item["name"] for item in listed["archives"]] == ["brain", "chest"]
    verified = json.loads(run("verify", "--store", url, "--json").stdout)
    assert [item["problem"] for item in verified["checked"]] == ["", ""]
    assert json.loads(run("gc", "--store", url, "--json").stdout)["blobs"] == []


def test_verify_reports_every_damaged_archive(here: Path, tmp_path: Path) -> None:
    url = tmp_path / "store"
    run("push", "--all", "--store", url, "--model-store", here)
    blobs = url / "blobs" / "sha256"
    brain, chest, newest, _ = model_store.read(here).archives
    (blobs / brain.sha256).unlink()
    (blobs / chest.sha256).write_bytes(bytes(chest.size))
    (blobs / newest.sha256).write_bytes(b"short")
    (here / brain.file).write_bytes(b"short")
    make(here, "chest", "1.0.0", content=1)
    output = run("verify", "--store", url, "--model-store", here, code=1)
    assert f"brain 1.0.0: {blobs / brain.sha256}: not found" in output.stderr
    assert "chest 1.0.0: sha256" in output.stderr
    assert f"chest 1.1.0: 5 bytes, but the index says {newest.size}" in output.stderr
    assert "brain-1.0.0.mar" in output.stderr
    assert f"{here}: chest 1.0.0: sha256" in output.stderr
    assert (output.stdout.count("damaged"), output.stdout.count("intact")) == (5, 2)


def test_a_failing_archive_does_not_stop_the_others(here: Path, tmp_path: Path) -> None:
    (here / "brain-1.0.0.mar").write_bytes(b"")
    output = run("push", "--all", "--store", tmp_path / "store", "--model-store", here, code=1)
    assert output.stdout.count("pushed") == 2
    assert "brain-1.0.0.mar" in output.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("push",), "specify either archives"),
        (("push", "chest", "--all"), "specify either archives"),
        (("pull",), "specify either archives"),
        (("push", "none"), "Build it: radserve build none"),
        (("gc", "--older-than", "soon"), "30m, 24h, 7d"),
    ],
)
def test_wrong_usage_is_rejected(arguments: tuple[str, ...], message: str, here: Path, tmp_path: Path) -> None:
    options = ("--model-store", here) if arguments[0] in ("push", "pull") else ()
    stderr = run(*arguments, "--store", tmp_path / "store", *options, code=2).stderr
    assert message in " ".join(stderr.replace("│", " ").split())


def test_options_from_environment_variables(
    here: Path, tmp_path: Path, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RADSERVE_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("RADSERVE_MODEL_STORE", str(here))
    monkeypatch.setenv("RADSERVE_STORE_SIGNING_KEY", str(pair.private))
    run("push", "chest")
    monkeypatch.setenv("RADSERVE_STORE_PUBLIC_KEY", "env:KEY")
    monkeypatch.setenv("KEY", pair.public.read_text())
    monkeypatch.setenv("RADSERVE_MODEL_STORE", str(tmp_path / "there"))
    run("pull", "chest")
    (entry,) = model_store.read(tmp_path / "there").archives
    mar.verify(entry, tmp_path / "there")


def test_heavy_libraries_are_loaded_on_demand() -> None:
    for code, heavy in (
        (
            "import radserve.cli.main, radserve.cli.store",
            ("torch", "boto3", "cryptography", "obstore", "radserve.store.store"),
        ),
        (
            "from radserve.store import open_store; open_store('s3://bucket').name",
            ("torch", "boto3", "cryptography", "obstore", "radserve.client"),
        ),
    ):
        check = f"import sys\n{code}\nprint([name for name in {heavy!r} if name in sys.modules])"
        process = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True, cwd=ROOT)
        assert process.stdout.strip() == "[]"

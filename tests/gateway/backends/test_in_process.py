"""The in-process backend responds byte for byte like TorchServe with the same archive."""

import asyncio
import base64
import gzip
import io
import json
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from gateway import model_response
from gateway.app import create
from gateway.backends.base import Backend, ModelRequest, ModelResponse
from gateway.backends.in_process import InProcessBackend
from gateway.backends.server import ServerBackend
from gateway.errors import NotFoundError, SettingsError
from gateway.settings import Settings
from handlers import worker
from radserve.build import model_store
from tests.repack import FILM, NAME
from tests.server import ROOT, Server

PHOTOGRAPH = (ROOT / "archives" / "cifar10-lenet" / "sample.png").read_bytes()


def flat() -> bytes:
    stream = io.BytesIO()
    Image.new("L", (200, 200), 128).save(stream, "PNG")
    return stream.getvalue()


def several(*images: bytes) -> bytes:
    return json.dumps({"instances": [{"b64": base64.b64encode(image).decode()} for image in images]}).encode()


def zipped(*images: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for number, image in enumerate(images):
            archive.writestr(f"slice_{number}.png", image)
    return stream.getvalue()


def question(body: bytes, **fields: str | None) -> ModelRequest:
    return ModelRequest(**{"verb": "predictions", "model": NAME, "version": None, "body": body} | fields)  # type: ignore[arg-type]


QUESTIONS = {
    "a film": question(FILM),
    "a film of a version": question(FILM, version="1.0.0", media_type="image/png"),
    "a film as JSON": question(
        json.dumps({"image": base64.b64encode(FILM).decode()}).encode(), media_type="application/json"
    ),
    "a compressed film": question(gzip.compress(FILM), encoding="gzip"),
    "several films": question(several(*[FILM] * 9, b"junk", FILM), media_type="application/json"),
    "a zip": question(zipped(FILM, flat(), FILM)),
    "an explanation": question(FILM, verb="explanations"),
    "an overlay": question(FILM, verb="explanations", accept="image/png"),
    "a map": question(FILM, verb="explanations", accept="image/png;view=map"),
    "a view that is not there": question(FILM, accept="image/png"),
    "an unreadable image": question(FILM[:400]),
    "no image": question(b"hello"),
    "an image without contrast": question(flat()),
    "a photograph": question(PHOTOGRAPH),
    "an unknown coding": question(FILM, encoding="br"),
}


@pytest.fixture(scope="module")
def inprocess(server: Server) -> Iterator[InProcessBackend]:
    path = server.store / f"{NAME}-1.0.0.mar"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(worker.DOMAIN, "off")  # as the server's workers
        backend = create(Settings.read(archive=path, history="none")).state.services.backend
    assert isinstance(backend, InProcessBackend)
    yield backend
    asyncio.run(backend.close())


def ask(
    server: Server, inprocess: InProcessBackend, model_request: ModelRequest
) -> tuple[ModelResponse, ModelResponse]:
    async def both() -> tuple[ModelResponse, ModelResponse]:
        behind = ServerBackend(Settings.read(server=server.url, supervisor=server.health_url))
        try:
            return await behind.infer(model_request), await inprocess.infer(model_request)
        finally:
            await behind.close()

    return asyncio.run(both())


@pytest.mark.e2e
@pytest.mark.parametrize("model_request", QUESTIONS.values(), ids=QUESTIONS.keys())
def test_responses_equal_torchserve_byte_for_byte(
    server: Server, inprocess: InProcessBackend, model_request: ModelRequest
) -> None:
    behind, here = ask(server, inprocess, model_request)
    assert here == behind


@pytest.mark.e2e
def test_a_form_is_rejected_as_by_the_proxy(server: Server, inprocess: InProcessBackend) -> None:
    form = question(b"a=b", media_type="application/x-www-form-urlencoded")
    assert [response.status for response in ask(server, inprocess, form)] == [415, 415]


@pytest.mark.e2e
@pytest.mark.parametrize("model_request", [question(FILM, model="no-such-model"), question(FILM, version="9.9.9")])
def test_unknown_model_problem_matches_that_of_a_server(
    server: Server, inprocess: InProcessBackend, model_request: ModelRequest
) -> None:
    behind, here = map(model_response.problem, ask(server, inprocess, model_request))
    assert (here.status, here.title) == (behind.status, behind.title)
    assert all("Unknown" in str(problem) and "/api/models" in str(problem) for problem in (here, behind))
    assert here.status == 404


@pytest.mark.e2e
def test_size_limit_equals_torchserve(server: Server, inprocess: InProcessBackend) -> None:
    behind, here = ask(server, inprocess, question(b"\0" * 44_805_462))
    assert here.status == behind.status == 413


@pytest.mark.e2e
def test_catalog_equals_supervisor_catalog(server: Server, inprocess: InProcessBackend) -> None:
    async def described(backend: Backend) -> tuple[object, str, bytes, str | None]:
        result = await backend.catalog(), await backend.card(NAME, "1.0.0"), await backend.sample(NAME, "1.0.0")
        return *result, await backend.ready()

    async def both() -> None:
        behind = ServerBackend(Settings.read(server=server.url, supervisor=server.health_url))
        assert await described(inprocess) == await described(behind)
        await behind.close()
        with pytest.raises(NotFoundError):
            await inprocess.card(NAME, "9.9.9")
        with pytest.raises(NotFoundError):
            await inprocess.sample("no-such-model", "1.0.0")

    asyncio.run(both())


def test_concurrent_requests_do_not_block_event_loop(inprocess: InProcessBackend) -> None:
    async def many() -> tuple[list[ModelResponse], int]:
        turns = 0
        responses = [asyncio.create_task(inprocess.infer(question(body))) for body in (FILM, b"hello", FILM)]
        while not all(task.done() for task in responses):
            await asyncio.sleep(0)
            turns += 1
        return [task.result() for task in responses], turns

    replies, turns = asyncio.run(many())
    assert [reply.status for reply in replies] == [200, 415, 200]
    assert replies[0] == replies[2]
    assert turns > 100


def test_archive_that_differs_from_index_is_rejected(store: Path, tmp_path: Path) -> None:
    copy = tmp_path / f"{NAME}-1.0.0.mar"
    shutil.copy2(store / copy.name, copy)
    shutil.copy2(store / model_store.FILE, tmp_path)
    with copy.open("ab") as file:
        file.write(b"\0")
    with pytest.raises(SettingsError, match=r"RADSERVE_GATEWAY_ARCHIVE: .* bytes, the index has"):
        InProcessBackend(copy)
    with pytest.raises(SettingsError, match="file not found"):
        InProcessBackend(tmp_path / "none.mar")
    other = copy.rename(tmp_path / "other.mar")
    with pytest.raises(SettingsError, match="missing in the index"):
        InProcessBackend(other)


def test_archive_of_other_release_is_rejected(store: Path, tmp_path: Path) -> None:
    changed = tmp_path / "changed.mar"
    with zipfile.ZipFile(store / f"{NAME}-1.0.0.mar") as old, zipfile.ZipFile(changed, "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name) + (b"\n" if name == "handlers/threshold.py" else b""))
    with pytest.raises(SettingsError, match=r"its handlers/threshold\.py differs"):
        InProcessBackend(changed)
    changed.write_bytes(b"no zip")
    with pytest.raises(SettingsError, match="not a valid archive"):
        InProcessBackend(changed)


def test_archive_without_index_is_verified_by_manifest(store: Path, tmp_path: Path) -> None:
    alone = tmp_path / "Film.mar"
    shutil.copy2(store / f"{NAME}-1.0.0.mar", alone)
    backend = InProcessBackend(alone)
    (model,) = asyncio.run(backend.catalog()).models
    assert model.versions[0].sha256 == model_store.sha256(alone)
    asyncio.run(backend.close())

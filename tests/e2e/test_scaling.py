"""Tests that a real TorchServe answers each request exactly once while its workers are reduced under load."""

import hashlib
import io
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from PIL import Image

from tests.e2e.test_proxy_life import published
from tests.proxy import Keys
from tests.repack import FILM, NAME
from tests.server import running
from tests.versions import PATH, add, copied, inserted

pytestmark = pytest.mark.e2e

CLIENTS = 8


def recording(file: Path) -> str:
    """Return code for a handler that writes the id of each request to a file."""
    ids = "(context.get_request_header(index, 'X-Request-Id') for index in range(len(data)))"
    return f"open({str(file)!r}, 'a').writelines(f'{{value}}\\n' for value in {ids})"


@dataclass
class Answers:
    """Ids of the requests that were sent, of those that were answered, and what was wrong with the others."""

    sent: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def film(number: int) -> bytes:
    """Return the sample in another size, so that no two clients send the same image."""
    with Image.open(io.BytesIO(FILM)) as image:
        resized = image.resize((image.width + number, image.height))
    stream = io.BytesIO()
    resized.save(stream, "PNG")
    return stream.getvalue()


@contextmanager
def clients(url: str, headers: dict[str, str]) -> Iterator[Answers]:
    """Run clients that send one request after the other without a pause, each with its own image."""
    answers, stop = Answers(), threading.Event()

    def send(number: int) -> None:
        body = film(number)
        digest = hashlib.sha256(body).hexdigest()
        with httpx.Client(base_url=url, headers=headers, timeout=60) as client:
            for count in iter(lambda: None if stop.is_set() else next(counter), None):
                identity = f"client-{number}-{count}"
                answers.sent.append(identity)
                try:
                    response = client.post(PATH, content=body, headers={"X-Request-Id": identity})
                    right = response.status_code == 200 and response.json()["image"]["sha256"] == digest
                    fault = "" if right and response.headers["x-request-id"] == identity else response.text
                except httpx.HTTPError as error:
                    fault = repr(error)
                if fault:
                    answers.faults.append(f"{identity}: {fault}")

    counter = iter(range(1_000_000))
    threads = [threading.Thread(target=send, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_each_request_is_answered_once_while_workers_are_reduced(store: Path, keys: Keys, tmp_path: Path) -> None:
    own, handled, log, runtime = (
        copied(store, tmp_path / "store"),
        tmp_path / "handled",
        tmp_path / "access",
        tmp_path / "r",
    )
    add(own, "1.1.0", inserted("            self.meter.batch.observe(len(data))\n", recording(handled)))
    options = published(
        "--keys", str(keys.file), "--access-log", str(log), "--rate", "100000", "--runtime", str(runtime)
    )
    options += ("--state", str(tmp_path / "state"), "--models", f"{NAME}/1.1.0", "--workers", "3", "--settle", "1")
    transport = httpx.HTTPTransport(uds=str(runtime / "control.sock"))
    with (
        running(own, tmp_path / "log", *options) as server,
        httpx.Client(transport=transport, base_url="http://radserve", timeout=120) as control,
        clients(server.url, {"X-API-Key": keys.texts["predict"]}) as answers,
    ):
        for workers in (2, 1, 3, 1):
            response = control.patch(f"/versions/{NAME}/1.1.0", json={"workers": workers})
            assert response.status_code == 200, response.text
            time.sleep(1)
        (version,) = control.get(f"/versions/{NAME}").json()["versions"]
        assert version["workers"] == {"wanted": 1, "ready": 1}
    assert answers.faults == []
    assert len(answers.sent) > 100
    # The supervisor's samples have no id of a client.
    counts = Counter(line for line in handled.read_text().splitlines() if line.startswith("client-"))
    assert counts == Counter(answers.sent)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    forwarded = [line["request_id"] for line in lines if line["request_id"].startswith("client-")]
    assert Counter(forwarded) == Counter(answers.sent)

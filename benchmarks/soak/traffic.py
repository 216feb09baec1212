"""Requests of a soak test: bodies, their reference predictions, and the clients that send them."""

from __future__ import annotations

import hashlib
import http.client
import io
import json
import multiprocessing
import random
import shutil
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import yaml
from PIL import Image as Pillow

from benchmarks import inprocess
from benchmarks.load import connect
from benchmarks.server import CHECKOUT
from radserve.build import model_store
from radserve.client.validation import result
from radserve.errors import InvalidResponseError
from radserve.schema.prediction import Prediction
from radserve.schema.requested_image import RequestedImage

NAME: Final = "cifar10-lenet"
STABLE, CANDIDATE = "1.0.0", "1.1.0"
VERSIONS: Final = {STABLE: 1.0, CANDIDATE: 2.5}
"""Version -> calibration temperature, so that the versions give the same image different probabilities."""
KINDS: Final = {"good": 880, "large": 10, "bad": 100, "huge": 10}
"""Kind of a body -> its share of the requests in thousandths. Large bodies are valid images of six megapixels."""
_PINNED: Final = 0.1
"""Share of the requests whose path names the stable version."""
_TOLERANCE: Final = 1e-4
"""Largest difference of a probability from its reference: the batch size changes the order of additions."""


@dataclass(frozen=True)
class Body:
    """A request body; `image` is the encoded image in it, if it is valid."""

    name: str
    kind: str
    content: bytes
    image: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Material:
    """A model store with two versions, and what each of them predicts for every valid body.

    Attributes
    ----------
    references
        Name of a body -> version -> label -> probability.
    sha256
        Version -> checksum of its archive.
    """

    store: Path
    bodies: Sequence[Body]
    references: Mapping[str, Mapping[str, Mapping[str, float]]]
    sha256: Mapping[str, str]


def prepare(folder: Path) -> Material:
    """Build the archives and compute the references; both are reused if they are current."""
    source, store, file = CHECKOUT / "archives" / NAME, folder / "model_store", folder / "references.json"
    for version, temperature in VERSIONS.items():
        recipes = folder / "recipes" / version
        shutil.copytree(source, recipes / NAME, dirs_exist_ok=True)
        path = recipes / NAME / "archive.yaml"
        recipe = yaml.safe_load(path.read_bytes())
        calibration = recipe["calibration"] | {"temperature": temperature}
        path.write_text(yaml.safe_dump(recipe | {"version": version, "calibration": calibration}), encoding="utf-8")
        # --missing compares with the newest version only, so both are built unless both are present.
        if model_store.read(store).find(NAME, version) is None:
            command = ["build", NAME, "--archives", str(recipes), "--model-store", str(store)]
            subprocess.run([sys.executable, "-m", "radserve", *command], check=True, cwd=CHECKOUT, capture_output=True)
    bodies = make_bodies((source / "sample.png").read_bytes())
    entries = {version: model_store.read(store).find(NAME, version) for version in VERSIONS}
    sha256 = {version: entry.sha256 for version, entry in entries.items() if entry is not None}
    if not file.exists():
        predictions = {version: _predict(store / f"{NAME}-{version}.mar", bodies) for version in VERSIONS}
        references = {
            name: {version: predictions[version][name] for version in VERSIONS} for name in predictions[STABLE]
        }
        file.write_text(json.dumps(references, indent=1), encoding="utf-8")
    return Material(store, bodies, json.loads(file.read_bytes()), sha256)


def _predict(archive: Path, bodies: Sequence[Body]) -> dict[str, Mapping[str, float]]:
    """Run the handler of an archive in another process, without a server."""
    valid = [body for body in bodies if body.image]
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        responses = pool.submit(inprocess.respond, archive, [body.content for body in valid]).result()
    for body, (status, content) in zip(valid, responses, strict=True):
        if status != 200:
            raise RuntimeError(f"{body.name}: status {status}: {content[:300]!r}")
    return {
        body.name: json.loads(content)["probabilities"] for body, (_, content) in zip(valid, responses, strict=True)
    }


def make_bodies(sample: bytes, variants: int = 24) -> list[Body]:
    """Make valid bodies from different images, and invalid ones."""
    random_numbers = np.random.default_rng(7)
    original = Pillow.open(io.BytesIO(sample)).convert("RGB")
    bodies = []
    for number in range(variants):
        pixels = np.asarray(original.rotate(15 * number), dtype=np.int16) + random_numbers.integers(
            -60, 60, (32, 32, 3)
        )
        picture = Pillow.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
        image = _encoded(picture, "JPEG" if number % 4 == 1 else "PNG")
        bodies.append(Body(f"good {number}", "good", image, image))
        if number < 3:
            large = _encoded(picture.resize((3000, 2000)), "JPEG" if number % 4 == 1 else "PNG")
            bodies.append(Body(f"large {number}", "large", large, large))
    gzip = {"Content-Encoding": "gzip"}
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("slice.png", bytes(200 << 20))
    declared = sample.replace(sample[16:24], (60_000).to_bytes(4) * 2, 1)
    bad = {
        "empty": b"",
        "text": b"no image",
        "truncated": sample[:400],
        "JSON": b'{"image": 7}',
        "invalid JSON": b"{[",
        "zip": b"PK\x03\x04" + bytes(500),
        "random": random_numbers.bytes(3000),
        "60,000 pixels wide": declared,
    }
    bodies += [Body(name, "bad", content) for name, content in bad.items()]
    bodies.append(Body("invalid gzip", "bad", sample, headers=gzip))
    return [
        *bodies,
        Body("46 MB", "huge", bytes(46 << 20)),
        Body("20 MB, no image", "huge", bytes(20 << 20)),
        Body("zip of 200 MB", "huge", bomb.getvalue()),
    ]


def _encoded(picture: Pillow.Image, form: str) -> bytes:
    target = io.BytesIO()
    picture.save(target, form, quality=90)
    return target.getvalue()


@dataclass(frozen=True, slots=True)
class Record:
    """A request.

    Attributes
    ----------
    begin, end
        `time.monotonic` in seconds.
    status
        0 if no HTTP response arrived.
    cause
        Status and title of an error, or the exception.
    wrong
        How the response differs from the reference; empty if it does not.
    request_id
        In the proxy's access log.
    """

    begin: float
    end: float
    kind: str
    body: str
    status: int
    cause: str
    wrong: str
    request_id: str


class Traffic:
    """Clients that send requests until `finish`, each one at a time over a persistent connection, without retries.

    At `rate` requests per second, all clients send at the same moment, so that the concurrency is theirs.

    Attributes
    ----------
    records
        Requests that have ended.
    """

    def __init__(self, url: str, key: str, material: Material, clients: int, rate: float) -> None:
        self.records: list[Record] = []
        self._url, self._key, self._material = url, key, material
        self._clients, self._interval = clients, clients / rate
        self._lock, self._random = threading.Lock(), random.Random(7)
        self._sent, self._release, self._total = 0, 0.0, sys.maxsize
        self._full_speed = False
        self._allowed: list[tuple[float, frozenset[str]]] = [(0.0, frozenset({STABLE}))]
        self._bodies = {kind: [body for body in material.bodies if body.kind == kind] for kind in KINDS}
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(clients)]

    def start(self) -> None:
        """Start the clients."""
        for thread in self._threads:
            thread.start()

    def await_records(self, count: int) -> None:
        """Wait until a number of requests have ended."""
        while len(self.records) < count:
            time.sleep(0.1)

    def finish(self, total: int) -> None:
        """Wait until at least `total` requests have been sent and all have ended."""
        self._total = total
        for thread in self._threads:
            thread.join()

    def allow(self, *versions: str) -> None:
        """Set the versions that may answer requests without a version from now on."""
        self._allowed.append((time.monotonic(), frozenset(versions)))

    @contextmanager
    def full_speed(self) -> Iterator[None]:
        """Send without pauses, so that every worker has requests in hand."""
        self._full_speed = True
        try:
            yield
        finally:
            self._full_speed = False

    def _run(self) -> None:
        connection = connect(self._url)
        while (turn := self._next()) is not None:
            self.records.append(record := self._send(connection, *turn))
            if record.status == 0:
                connection.close()
                time.sleep(0.1)
        connection.close()

    def _next(self) -> tuple[Body, str | None] | None:
        """Wait for the next moment to send, and choose a body and a version."""
        with self._lock:
            if self._sent >= self._total:
                return None
            self._sent += 1
            now = time.monotonic()
            if self._full_speed:
                self._release = now
            elif self._sent % self._clients == 0:
                self._release = max(now, self._release + self._interval)
            release = self._release
            (kind,) = self._random.choices(list(KINDS), list(KINDS.values()))
            body = self._random.choice(self._bodies[kind])
            version = STABLE if self._random.random() < _PINNED else None
        time.sleep(max(0.0, release - now))
        return body, version

    def _send(self, connection: http.client.HTTPConnection, body: Body, version: str | None) -> Record:
        path = f"/predictions/{NAME}" + (f"/{version}" if version else "")
        begin = time.monotonic()
        status, cause, wrong, request_id = 0, "", "", ""
        try:
            with suppress(BrokenPipeError):  # rejected before the end of the body; the response is there already
                connection.request("POST", path, body.content, {"X-API-Key": self._key} | dict(body.headers))
            response = connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException) as error:
            cause = f"{type(error).__name__}: {error}"[:100]
        else:
            status, request_id = response.status, response.headers.get("X-Request-Id", "")
            cause = "" if status == 200 else f"{status} {_title(content)}"
            wrong = check(self._material, body, version, self._answerable(begin), status, content)
        return Record(begin, time.monotonic(), body.kind, body.name, status, cause, wrong, request_id)

    def _answerable(self, begin: float) -> frozenset[str]:
        """Return the versions that were allowed at some time since `begin`."""
        history = self._allowed
        first = max(index for index, (since, _) in enumerate(history) if since <= begin)
        return frozenset().union(*(versions for _, versions in history[first:]))


def check(
    material: Material, body: Body, version: str | None, allowed: frozenset[str], status: int, content: bytes
) -> str:
    """Return how a response differs from what the body deserves; empty if it does not."""
    if status != 200:
        rejected = body.image and 400 <= status < 500 and status != 429
        return f"a valid body was answered {status} {_title(content)}" if rejected else ""
    if not body.image:
        return "an invalid body was answered 200"
    try:
        prediction = result(json.loads(content), RequestedImage(NAME, version, hashlib.sha256(body.image).hexdigest()))
    except (ValueError, InvalidResponseError) as error:
        return str(error)
    assert isinstance(prediction, Prediction)
    actual = prediction.model.version
    if actual not in allowed and version is None:
        return f"version {actual} answered, but only {', '.join(sorted(allowed))} had traffic"
    if prediction.model.sha256 != material.sha256[actual]:
        return f"the model's checksum is {prediction.model.sha256}"
    reference = material.references[body.name][actual]
    if prediction.label != max(reference, key=reference.__getitem__):
        return f"the label is {prediction.label}"
    difference = max(abs(reference[label] - value) for label, value in prediction.probabilities.items())
    return f"a probability differs by {difference:.4f}" if difference > _TOLERANCE else ""


def _title(content: bytes) -> str:
    """Return the title of problem details, or the type in TorchServe's error."""
    try:
        document: Any = json.loads(content)
        return str(document.get("title") or document["type"])
    except (ValueError, KeyError, AttributeError):
        return repr(content[:60])

import asyncio
import gzip
import hashlib
import io
import json
from pathlib import Path

import httpx
import pytest
from PIL import Image as Pillow

from radserve.client import AsyncClient, Client, Results
from radserve.errors import InvalidCallError, InvalidResponseError, RejectedRequestError, UnreachableError
from radserve.schema.prediction import Prediction
from radserve.schema.problem import RejectedImage
from radserve.schema.segmentation import Segmentation
from tests.proxy import Proxy
from tests.radserve.scripted import Reply, Request, Scripted, answer, document, marked, png, prediction
from tests.server import Server, free_ports

SAMPLE = Path(__file__).resolve().parents[3] / "archives" / "chest-xray-cnn" / "sample.png"


def test_a_prediction_has_all_attributes_of_the_document(client: Client) -> None:
    result = client.predict("chest", b"image")
    assert isinstance(result, Prediction)
    assert (result.model.name, result.model.version, result.label, result.probability) == (
        "chest",
        "1.0.0",
        "normal",
        0.75,
    )
    assert (result.positive, result.threshold, result.image.width, result.image.height) == (False, 0.5, 20, 10)
    assert result.raw == prediction(b"image")


def test_a_file_is_sent_unchanged(client: Client, odd: Scripted, tmp_path: Path) -> None:
    (tmp_path / "film.png").write_bytes(b"image")
    client.predict("chest", tmp_path / "film.png", "1.0.0")
    (request,) = odd.requests
    assert (request.path, request.body) == ("/predictions/chest/1.0.0", b"image")
    assert request.headers["Accept"] == "application/json"


def test_a_base_url_with_a_path_is_kept(odd: Scripted) -> None:
    with Client(f"{odd.url}/api/") as client:
        client.predict("chest", b"image")
    assert odd.requests[0].path == "/api/predictions/chest"


def test_a_key_is_sent_as_bearer(odd: Scripted) -> None:
    with Client(odd.url, key="secret") as client:
        client.predict("chest", b"image")
    assert odd.requests[0].headers["Authorization"] == "Bearer secret"


def test_requests_to_loopback_bypass_proxies(odd: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_ports(1)[0]}")
    with Client(odd.url) as client:
        assert client.predict("chest", b"image").label == "normal"


def test_a_compressed_response_is_decoded(client: Client, odd: Scripted) -> None:
    body = gzip.compress(json.dumps(prediction(b"image")).encode())
    odd.say(Reply(body=body, headers={"Content-Encoding": "gzip"}))
    assert client.predict("chest", b"image").label == "normal"


@pytest.mark.parametrize(
    "reply",
    [
        Reply(body=b""),
        Reply(body=b'{"label": "normal"'),
        Reply(body=b'{"label": NaN}'),
        Reply(body=b"\xff\xfe{"),
        Reply(body=json.dumps(prediction(b"image")).encode(), media_type="text/html"),
        Reply(body=json.dumps(prediction(b"image")).encode(), media_type=None),
        Reply(204, media_type=None),
        Reply(302, headers={"Location": "https://example.org/"}),
        Reply(body=b"no gzip", headers={"Content-Encoding": "gzip"}),
        document([prediction(b"image")]),
        document({"predictions": [prediction(b"image")]}),
        document(prediction(b"image", label=...)),
        document(prediction(b"another image")),
    ],
)
def test_an_undocumented_response_is_invalid(client: Client, odd: Scripted, reply: Reply) -> None:
    odd.say(reply)
    with pytest.raises(InvalidResponseError):
        client.predict("chest", b"image")


def test_results_of_several_images_keep_the_order_of_the_images(client: Client, odd: Scripted) -> None:
    first, second, third = client.predict_many("chest", [b"one", b"bad", b"three"])
    assert isinstance(first, Prediction)
    assert second == RejectedImage(status=400, title="Unreadable image", detail="It is bad.")
    assert isinstance(third, Prediction)
    assert len(odd.requests) == 1


def test_many_images_are_split_into_requests_within_the_limits(client: Client, odd: Scripted) -> None:
    answers = client.predict_many("chest", (b"%d" % number for number in range(130)))
    assert len(answers) == 130
    assert [len(json.loads(request.body)["instances"]) for request in odd.requests] == [64, 64, 2]


def test_an_empty_list_sends_no_request(client: Client, odd: Scripted) -> None:
    assert client.predict_many("chest", []) == []
    assert not odd.requests


def test_a_missing_result_makes_the_response_invalid(client: Client, odd: Scripted) -> None:
    odd.say(document({"predictions": [prediction(b"one")]}))
    with pytest.raises(InvalidResponseError, match="1 entries for 2 images"):
        client.predict_many("chest", [b"one", b"two"])


def test_swapped_results_are_detected(client: Client, odd: Scripted) -> None:
    odd.say(document({"predictions": [prediction(b"two"), prediction(b"one")]}))
    with pytest.raises(InvalidResponseError, match="sha256"):
        client.predict_many("chest", [b"one", b"two"])


def test_a_single_image_above_the_servers_limit_is_a_rejected_image(client: Client, odd: Scripted) -> None:
    odd.say(Reply(413, media_type=None))
    (refusal,) = client.predict_many("chest", [b"one"])
    assert isinstance(refusal, RejectedImage)
    assert refusal.status == 413


def test_images_that_are_too_large_together_are_sent_singly(client: Client, odd: Scripted) -> None:
    odd.script = lambda request: Reply(413) if len(json.loads(request.body)["instances"]) > 1 else answer(request)
    sent = [b"one", b"two", b"three"]
    for results in (client.predict_many("chest", sent), asyncio.run(_predict_many(odd.url, sent))):
        assert [item.image.sha256 for item in results if isinstance(item, Prediction)] == [
            hashlib.sha256(content).hexdigest() for content in sent
        ]


async def _predict_many(url: str, sent: list[bytes]) -> Results:
    async with AsyncClient(url) as client:
        return await client.predict_many("chest", sent)


def test_a_file_above_max_bytes_is_not_sent(odd: Scripted, tmp_path: Path) -> None:
    (tmp_path / "film.png").write_bytes(b"12345")
    with Client(odd.url, max_bytes=4) as client, pytest.raises(RejectedRequestError, match="more than 4 bytes"):
        client.predict("chest", tmp_path / "film.png")
    assert not odd.requests


def test_an_image_above_max_bytes_is_a_rejected_image_among_the_others(odd: Scripted, tmp_path: Path) -> None:
    (large := tmp_path / "large.png").write_bytes(b"12345")
    with Client(odd.url, max_bytes=4) as client:
        first, second, third, fourth = client.predict_many("chest", [b"one", large, b"12345", b"four"])
    assert isinstance(first, Prediction)
    assert isinstance(fourth, Prediction)
    reason = "The image has more than 4 bytes (max_bytes of the client)."
    assert second == third == RejectedImage(status=413, title="Content too large", detail=reason)
    assert (second.path, third.path) == (large, None)


@pytest.mark.parametrize("name", ["", "..", "a/b", "a b", "a\n", "ä", "?x"])
def test_a_name_that_would_change_the_path_is_not_sent(client: Client, odd: Scripted, name: str) -> None:
    with pytest.raises(InvalidCallError, match="name has value"):
        client.predict(name, b"image")
    with pytest.raises(InvalidCallError, match="version has value"):
        client.predict("chest", b"image", name)
    assert not odd.requests


@pytest.mark.parametrize("url", ["", "localhost:8080", "ftp://host", "http://", "http://[::1", "file:///etc/passwd"])
def test_an_invalid_url_is_an_invalid_call(url: str) -> None:
    with pytest.raises(InvalidCallError, match="url has value"):
        Client(url)


def test_invalid_arguments_are_named() -> None:
    with pytest.raises(InvalidCallError, match="retries has value -1"):
        Client(retries=-1)
    with pytest.raises(InvalidCallError, match="timeout has value 0"):
        Client(timeout=0)
    with pytest.raises(InvalidCallError, match="key"):
        Client(key="a\r\nb")


def test_readiness_is_that_of_the_supervisor(client: Client, odd: Scripted) -> None:
    odd.say(document({"state": "ready", "detail": "Yes."}), document({"state": "draining", "detail": "No."}, 503))
    assert client.ready(odd.url)
    assert not client.ready(f"{odd.url}/ready")
    assert [request.path for request in odd.requests] == ["/ready", "/ready"]


def test_another_service_has_no_readiness(client: Client, odd: Scripted) -> None:
    odd.say(document({"status": "Healthy"}), Reply(404))
    for _ in range(2):
        with pytest.raises(InvalidResponseError, match=r"not RadServe's /ready|not valid JSON"):
            client.ready(odd.url)
    with pytest.raises(UnreachableError):
        client.ready(f"http://127.0.0.1:{free_ports(1)[0]}")


def test_ready_defaults_to_the_base_url(client: Client, odd: Scripted) -> None:
    odd.say(document({"state": "ready", "detail": "Requests are answered.", "history": "ok"}), Reply(404))
    assert client.ready().detail == "Requests are answered."
    with pytest.raises(InvalidResponseError):
        client.ready()
    assert [request.path for request in odd.requests] == ["/ready", "/ready"]


def test_an_invalid_authority_is_named(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    for name in ("ca.pem", "nothing.pem"):
        with pytest.raises(InvalidCallError, match=f"--cacert .*{name}"):
            Client(cacert=tmp_path / name)


@pytest.mark.e2e
def test_a_proxy_is_trusted_only_with_its_authority(proxy: Proxy) -> None:
    key = proxy.keys.texts["predict"]
    with Client(proxy.url, key=key, cacert=proxy.ca) as client:
        assert client.ready()
        assert client.predict("chest-xray-cnn", SAMPLE).label == "pneumonia"
    with Client(proxy.url, key=key, retries=0) as client, pytest.raises(UnreachableError, match="--cacert FILE"):
        client.predict("chest-xray-cnn", SAMPLE)


def test_timeouts_can_be_set_individually(odd: Scripted) -> None:
    with Client(odd.url, timeout=httpx.Timeout(1, read=30)) as client:
        assert client.predict("chest", b"image").label == "normal"


def test_a_segmentation_model_gives_a_mask(client: Client) -> None:
    result = client.predict("glioma", b"image")
    assert isinstance(result, Segmentation)
    assert result.mask.pixels.tolist() == marked().tolist()


def test_a_series_is_one_request(client: Client, odd: Scripted) -> None:
    series = client.predict_series("glioma", (b"%d" % number for number in range(100)))
    assert (len(series.predictions), series.volume.pixels, len(odd.requests)) == (100, 2000, 1)
    assert series.volume.ml == pytest.approx(2.0)


def test_an_empty_series_is_an_invalid_call(client: Client, odd: Scripted) -> None:
    with pytest.raises(InvalidCallError, match="slices is empty"):
        client.predict_series("glioma", [])
    assert not odd.requests


def test_an_explanation_has_its_own_path(client: Client, odd: Scripted) -> None:
    result = client.explain("chest", b"image", "1.0.0")
    assert (result.prediction.label, result.heat.empty) == ("normal", False)
    assert odd.requests[0].path == "/explanations/chest/1.0.0"


def test_a_picture_is_requested_by_view(client: Client, odd: Scripted) -> None:
    size = client.predict("glioma", b"image").image
    content = client.picture("glioma", b"image", "1.0.0", size=size)
    assert Pillow.open(io.BytesIO(content)).size == (20, 10)
    request = odd.requests[1]
    assert (request.path, request.headers["Accept"]) == ("/predictions/glioma/1.0.0", "image/png;view=overlay")
    client.picture("chest", b"image", of="explanations", view="map")
    request = odd.requests[2]
    assert (request.path, request.headers["Accept"]) == ("/explanations/chest", "image/png;view=map")


@pytest.mark.parametrize(
    "reply",
    [
        document(prediction(b"image")),
        Reply(body=b"no picture", media_type="image/png"),
        Reply(body=png(marked()), media_type="image/jpeg"),
        Reply(body=png(marked()[:, :10].copy()), media_type="image/png"),
        Reply(body=png(marked())[:60], media_type="image/png"),
    ],
)
def test_an_invalid_picture_is_rejected(client: Client, odd: Scripted, reply: Reply) -> None:
    size = client.predict("glioma", b"image").image
    odd.say(reply)
    with pytest.raises(InvalidResponseError):
        client.picture("glioma", b"image", size=size)


def test_a_rejected_picture_has_the_servers_reason(client: Client) -> None:
    with pytest.raises(RejectedRequestError, match="400 Unreadable image: It is bad"):
        client.picture("glioma", b"bad")


@pytest.mark.e2e
def test_errors_of_torchserve_and_nginx_say_what_to_do(server: Server) -> None:
    with Client(server.url) as client:
        for version in (None, "9.9.9"):
            name = "chest-xray-cnn" if version else "no-such-model"
            with pytest.raises(RejectedRequestError, match=r"404 Not found: Unknown (model|version 9\.9\.9)"):
                client.predict(name, SAMPLE, version)
        with pytest.raises(RejectedRequestError, match=r"413 .*send fewer or smaller images"):
            client.predict("chest-xray-cnn", bytes(46_000_000))


def test_a_prevalence_is_sent_with_the_assurances(client: Client, odd: Scripted) -> None:
    client.predict("chest", b"image", assurances={"age": 5}, prevalence=0.1)
    client.predict("chest", b"image", prevalence=0.00001)
    client.predict_many("chest", [b"image"], prevalence=0.1)
    sent = [request.headers["X-Assurances"] for request in odd.requests]
    assert sent == ["age=5, prevalence=0.100000", "prevalence=0.000010", "prevalence=0.100000"]


def test_assurances_are_sent_as_a_header_of_every_call(client: Client, odd: Scripted) -> None:
    stated: dict[str, str | float] = {"age": 5, "view": "PA"}
    client.predict("chest", b"image", assurances=stated)
    client.predict_many("chest", [b"one", b"two"], assurances=stated)
    client.predict("chest", b"image")
    sent = [request.headers.get("X-Assurances") for request in odd.requests]
    assert sent == ["age=5, view=PA", "age=5, view=PA", None]


@pytest.mark.parametrize("value", ["PA\r\nX-Other: 1", "f\u00fcnf", "5=6"])
def test_assurances_that_are_no_header_are_not_sent(client: Client, odd: Scripted, value: str) -> None:
    with pytest.raises(InvalidCallError, match="assurances have invalid characters"):
        client.predict("chest", b"image", assurances={"age": value})
    assert not odd.requests


def test_a_repair_is_sent_and_must_be_confirmed(client: Client, odd: Scripted) -> None:
    def repairing(request: Request) -> Reply:
        return document(prediction(request.body, repair="rotate-90"))

    odd.script = repairing
    assert client.predict("chest", b"image", repair="rotate-90").repair == "rotate-90"
    assert odd.requests[-1].path == "/predictions/chest?repair=rotate-90"
    odd.script = answer  # an older server ignores the query
    with pytest.raises(InvalidResponseError, match="repair None, but repair rotate-90 was requested"):
        client.predict("chest", b"image", repair="rotate-90")


def test_an_unknown_repair_is_not_sent(client: Client, odd: Scripted) -> None:
    with pytest.raises(InvalidCallError, match="repair has value 'mirror'; use rotate-90"):
        client.predict("chest", b"image", repair="mirror")  # type: ignore[arg-type]
    assert not odd.requests


def test_a_rejection_has_its_comparison_with_the_training_images(client: Client, odd: Scripted) -> None:
    domain = {"mode": "strict", "status": "unlike", "score": 3.0, "percentile": 100, "reason": "rotated_90"}
    problem = {"status": 422, "title": "Unlike the training images", "detail": "Turn it.", "domain": domain}
    odd.script = lambda _: document(problem, 422)
    with pytest.raises(RejectedRequestError, match="Turn it") as raised:
        client.predict("chest", b"image")
    assert raised.value.extensions == {"domain": domain}

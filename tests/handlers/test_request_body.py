"""Every kind of body that TorchServe passes."""

import base64
import gzip
import json
import re
import tracemalloc
import zlib
from contextlib import suppress

import pytest

from handlers.errors import BadRequestError, ContentTooLargeError, RequestError, UnsupportedMediaTypeError
from handlers.formats.image import Limits
from handlers.formats.raw import RawSamples
from handlers.request_body import BodyLimits, parse_headers, read
from tests.handlers.formats.test_zip import zipped

FILM = b"\xff\xd8\xff film"
PYTHON = re.compile(r"\bb'|codec|Error|decompress|\bchar\b|Expecting|set_int_max_str_digits")
"""Words of Python's own messages."""
B64 = base64.b64encode(FILM).decode()
LIMITS = BodyLimits(images=3, unzipped=50_000, image=Limits(bytes=30_000))


def test_raw_bytes_are_one_image_whatever_the_content_type_says() -> None:
    for media in ("image/jpeg", "image/png", "application/dicom", "application/octet-stream", "text/plain", ""):
        body = read({"body": bytearray(FILM)}, parse_headers({"Content-Type": media}), LIMITS)
        assert body.images == (FILM,)
        assert not body.several


@pytest.mark.parametrize("parsed", [True, False])
def test_base64_json_is_one_image_whether_torchserve_parsed_it_or_not(parsed: bool) -> None:
    document = {"image": B64}
    body = read({"body": document if parsed else json.dumps(document).encode()}, {}, LIMITS)
    assert body.images == (FILM,)
    assert not body.several


def test_a_data_url_and_line_breaks_in_base64_are_read() -> None:
    wrapped = f"data:image/jpeg;base64,{B64[:4]}\n{B64[4:]}"
    assert read({"body": {"image": wrapped}}, {}, LIMITS).images == (FILM,)


def test_instances_keep_their_order_with_errors_in_place() -> None:
    document = {"instances": [{"b64": B64}, {"b64": "%%%"}, {"wrong": 1}]}
    body = read({"body": document}, {}, LIMITS)
    assert body.several
    assert body.images[0] == FILM
    assert [type(image) for image in body.images[1:]] == [BadRequestError, BadRequestError]
    assert "instances[1].b64" in str(body.images[1])


def test_raw_samples_are_recognised_alone_and_in_a_list() -> None:
    assert read({"body": {"data": B64}}, {}, LIMITS).images == (RawSamples(FILM),)
    body = read({"body": {"instances": [{"b64": B64}, {"data": B64}, {"data": 5}]}}, {}, LIMITS)
    assert body.images[:2] == (FILM, RawSamples(FILM))
    assert isinstance(body.images[2], BadRequestError)
    assert "instances[2].data" in str(body.images[2])


def test_an_instance_with_two_keys_is_an_error() -> None:
    (image,) = read({"body": {"instances": [{"b64": B64, "data": B64}]}}, {}, LIMITS).images
    assert isinstance(image, BadRequestError)


@pytest.mark.parametrize("media", ["application/zip", "application/octet-stream", "image/png", ""])
def test_a_zip_is_a_list_of_images_with_names(media: str) -> None:
    data = zipped({"film_10.jpg": FILM, "film_9.jpg": b"nine"})
    body = read({"body": bytearray(data)}, parse_headers({"Content-Type": media}), LIMITS)
    assert body.several
    assert (body.images, body.names) == ((b"nine", FILM), ("film_9.jpg", "film_10.jpg"))


def test_a_zip_of_one_image_is_still_a_list() -> None:
    assert read({"body": zipped({"1.jpg": FILM})}, {}, LIMITS).several


def test_the_limits_of_a_zip_are_those_of_the_body() -> None:
    with pytest.raises(ContentTooLargeError, match="4 files; the limit is 3"):
        read({"body": zipped(dict.fromkeys("abcd", FILM))}, {}, LIMITS)
    with pytest.raises(ContentTooLargeError, match="limit is 50000"):
        read({"body": zipped(dict.fromkeys("abc", bytes(20_000)))}, {}, LIMITS)
    (image,) = read({"body": zipped({"a": bytes(30_001)})}, {}, LIMITS).images
    assert isinstance(image, ContentTooLargeError)


def test_a_list_of_images_has_no_names() -> None:
    assert read({"body": {"instances": [{"b64": B64}]}}, {}, LIMITS).names == ()


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"{broken", BadRequestError),
        (b"[1, 2]", BadRequestError),
        (b'{"pixels": 1}', BadRequestError),
        (b'{"image": 5}', BadRequestError),
        (b'{"data": 5}', BadRequestError),
        (b'{"data": "%%%"}', BadRequestError),
        (b'{"data": "", "image": ""}', BadRequestError),
        (b"PK\x03\x04 cut off", BadRequestError),
        (b'{"instances": []}', BadRequestError),
        (b'{"instances": {}}', BadRequestError),
        (json.dumps({"instances": [{"b64": ""}] * 4}).encode(), ContentTooLargeError),
        (b"{" * 100_000, BadRequestError),
        ('{"image": "é"}'.encode(), BadRequestError),
        (b"\xef\xbb\xbf{}", BadRequestError),
        (b'{"image": "\xff"}', BadRequestError),
        (b'{"image": ' + b"1" * 5000 + b"}", BadRequestError),
        (b'{"image": "abc"}', BadRequestError),
        ("text that was decoded", UnsupportedMediaTypeError),
        (None, BadRequestError),
        (7, BadRequestError),
    ],
)
def test_a_body_without_image_is_rejected_with_a_hint(content: object, error: type[RequestError]) -> None:
    with pytest.raises(error) as raised:
        read({} if content is None else {"body": content}, {}, LIMITS)
    assert "." in str(raised.value)
    assert not PYTHON.search(str(raised.value))


@pytest.mark.parametrize(
    ("coding", "encode"),
    [("gzip", gzip.compress), ("x-gzip", gzip.compress), ("deflate", zlib.compress), ("GZIP", gzip.compress)],
)
def test_a_compressed_body_is_inflated(coding: str, encode: object) -> None:
    assert callable(encode)
    body = read({"body": encode(FILM)}, parse_headers({"content-encoding": coding}), LIMITS)
    assert body.images == (FILM,)


@pytest.mark.parametrize("padding", [b"", b"\0" * 512])
def test_a_gzip_body_of_several_members_is_read_whole(padding: bytes) -> None:
    members = gzip.compress(FILM[:4]) + gzip.compress(b"") + gzip.compress(FILM[4:]) + padding
    body = read({"body": members}, parse_headers({"content-encoding": "gzip"}), LIMITS)
    assert body.images == (FILM,)


def test_a_bomb_of_several_members_is_rejected_without_inflating_it() -> None:
    bomb = gzip.compress(b"0" * 1_000_000) * 50
    with pytest.raises(ContentTooLargeError, match="inflates to more"):
        read({"body": bomb}, parse_headers({"content-encoding": "gzip"}), LIMITS)


def test_a_body_of_too_many_members_is_rejected() -> None:
    with pytest.raises(BadRequestError, match="more than 4096 members"):
        read({"body": gzip.compress(b"") * 5000}, parse_headers({"content-encoding": "gzip"}), LIMITS)


def test_a_compressed_bomb_is_rejected_without_inflating_it() -> None:
    bomb = gzip.compress(b"0" * 50_000_000)
    with pytest.raises(ContentTooLargeError, match="inflates to more"):
        read({"body": bomb}, parse_headers({"content-encoding": "gzip"}), LIMITS)


GZIPPED = gzip.compress(FILM, mtime=0)


@pytest.mark.parametrize(
    "content", [b"no gzip", GZIPPED[:-6], GZIPPED + GZIPPED[:-6], GZIPPED + b"trailing", GZIPPED[:-8] + bytes(8)]
)
def test_a_damaged_compressed_body_is_rejected(content: bytes) -> None:
    for coding in ("gzip", "deflate"):
        with pytest.raises(BadRequestError, match=coding) as raised:
            read({"body": content}, parse_headers({"content-encoding": coding}), LIMITS)
        assert not PYTHON.search(str(raised.value))


@pytest.mark.parametrize(
    "body",
    [
        b'{"instances": [' + b"{}," * 1_000_000 + b"{}]}",
        b'{"instances": [{"b64": [' + b"[]," * 1_000_000 + b"[]]}]}",
        b"{" + b"".join(b'"%d":0,' % key for key in range(1_000_000)) + b'"image": ""}',
        b'{"image": "' + b"ab " * 2_000_000 + b'"}',
    ],
)
def test_a_body_of_millions_of_values_takes_little_memory(body: bytes) -> None:
    tracemalloc.start()
    try:
        with suppress(ContentTooLargeError):
            assert len(read({"body": body}, {}, LIMITS).images) == 1
        assert tracemalloc.get_traced_memory()[1] < 6 * len(body)
    finally:
        tracemalloc.stop()


def test_as_many_images_as_allowed_may_be_data_urls() -> None:
    url = f"data:image/jpeg;base64,{B64}"
    assert read({"body": json.dumps({"instances": [{"b64": url}] * 3}).encode()}, {}, LIMITS).images == (FILM,) * 3


def test_a_deflate_body_with_trailing_bytes_is_rejected() -> None:
    with pytest.raises(BadRequestError):
        read({"body": zlib.compress(FILM) * 2}, parse_headers({"content-encoding": "deflate"}), LIMITS)


def test_an_unsupported_coding_is_rejected() -> None:
    with pytest.raises(UnsupportedMediaTypeError, match="'br'"):
        read({"body": FILM}, parse_headers({"content-encoding": "br"}), LIMITS)


def test_a_urlencoded_form_is_rejected() -> None:
    with pytest.raises(UnsupportedMediaTypeError, match="curl -T"):
        read({"x": b"1"}, parse_headers({"content-type": "application/x-www-form-urlencoded"}), LIMITS)


def multipart(length: int) -> dict[str, str]:
    return parse_headers({"Content-Type": "multipart/form-data; boundary=x", "Content-Length": str(length)})


def test_one_part_of_a_form_is_read() -> None:
    film = FILM * 500
    assert read({"data": bytearray(film)}, multipart(len(film) + 200), LIMITS).images == (film,)


def test_a_repeated_part_that_torchserve_dropped_is_detected() -> None:
    film = FILM * 500
    with pytest.raises(BadRequestError, match="several parts with the same name"):
        read({"data": bytearray(film)}, multipart(2 * len(film) + 400), LIMITS)


def test_several_parts_are_rejected() -> None:
    with pytest.raises(BadRequestError, match="2 parts"):
        read({"a": FILM, "b": FILM}, multipart(300), LIMITS)


def test_headers_ignore_case_and_torchserves_own_win() -> None:
    headers = parse_headers(
        {"Explain": "True", "explain": "False", "ACCEPT": "image/png", "body": {"content-type": "x"}}
    )
    assert headers["explain"] == "False"
    assert headers.get("accept") == "image/png"
    assert "body" not in headers


@pytest.mark.parametrize("body", [FILM, {"image": B64}, {"instances": [{"b64": B64}]}, zipped({"a.png": FILM})])
def test_a_repair_of_the_header_is_for_every_image(body: object) -> None:
    assert read({"body": body}, {"x-repair": "rotate-90"}, LIMITS).repair == "rotate-90"
    assert read({"body": body}, {}, LIMITS).repair is None


def test_a_repair_of_a_json_body_must_not_contradict_the_header() -> None:
    document = {"image": B64, "repair": "invert", "assurances": {"age": 5}}
    for headers in ({}, {"x-repair": "invert"}):
        body = read({"body": document}, headers, LIMITS)
        assert (body.images, body.repair) == ((FILM,), "invert")
    with pytest.raises(BadRequestError, match="two repairs"):
        read({"body": document}, {"x-repair": "rotate-90"}, LIMITS)
    with pytest.raises(BadRequestError, match="Unknown repair 'mirror'"):
        read({"body": {"instances": [{"b64": B64}], "repair": "mirror"}}, {}, LIMITS)

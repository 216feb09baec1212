"""Results in notebooks, tables and plots."""

import hashlib
import io
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from PIL import Image as Pillow

from radserve.client import Client, Results, validation
from radserve.errors import InvalidCallError
from radserve.schema.explanation import Explanation
from radserve.schema.prediction import Prediction
from radserve.schema.problem import RejectedImage
from radserve.schema.requested_image import RequestedImage
from radserve.schema.segmentation import Segmentation
from tests.radserve.scripted import (
    Scripted,
    document,
    empty,
    explanation,
    marked,
    png,
    prediction,
    segmentation,
    volume,
)
from tests.server import ROOT

mpl.use("agg")

FILM = png(np.full((10, 20), 90, dtype=np.uint8))
LARGE = "font-size:1.3em"
UNCERTAIN = {"status": "uncertain", "prediction_set": ["normal", "pneumonia"], "level": 0.9}
DOMAIN = {"mode": "warn", "score": 3.0, "percentile": 99.9}
SCRIPT = "<script>alert(1)</script>"


def predicted(image: bytes = FILM, /, **changes: Any) -> Prediction | Segmentation:
    request = RequestedImage("chest", None, hashlib.sha256(image).hexdigest(), changes.get("repair"))
    return validation.result(prediction(image, **changes), request)


def segmented(image: bytes = FILM, /, **changes: Any) -> Prediction | Segmentation:
    request = RequestedImage("glioma", None, hashlib.sha256(image).hexdigest(), changes.get("repair"))
    return validation.result(segmentation(image, **changes), request)


def explained(image: bytes = FILM) -> Explanation:
    request = RequestedImage("chest", None, hashlib.sha256(image).hexdigest())
    return validation.explanation(explanation(image), request)


class _Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.images: list[dict[str, str | None]] = []
        self.open: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag == "img":
            self.images.append(dict(attrs))
        else:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def elements(html: str) -> _Elements:
    """Parse HTML whose elements are all closed."""
    parsed = _Elements()
    parsed.feed(html)
    assert parsed.open == []
    return parsed


def test_a_card_has_finding_bar_cut_off_model_and_disclaimer() -> None:
    html = predicted()._repr_html_()
    assert LARGE in html
    assert "normal: pneumonia below the cut-off" in html
    assert "pneumonia 25.0%, cut-off 50.0%" in html
    assert "left:50.00%" in html
    assert "chest 1.0.0" in html
    assert "Not a medical device" in html


def test_the_image_and_the_overlay_are_shown_if_they_are_known() -> None:
    assert elements(predicted()._repr_html_()).images == []
    shown = elements(predicted().showing(FILM)._repr_html_()).images
    assert [image["alt"] for image in shown] == ["analysed image"]
    for result in (segmented().showing(FILM), explained().showing(FILM)):
        shown = elements(result._repr_html_()).images
        assert [image["alt"] for image in shown] == ["analysed image", "overlay"]
    assert [image["alt"] for image in elements(segmented()._repr_html_()).images] == ["overlay"]


def test_the_overlay_is_transparent_where_nothing_is_marked() -> None:
    result = segmented()
    assert isinstance(result, Segmentation)
    overlay = np.asarray(Pillow.open(io.BytesIO(result._colored())).convert("RGBA"))
    np.testing.assert_array_equal(overlay[..., 3] > 0, marked() > 0)


def test_the_heat_map_is_transparent_where_nothing_is_relevant() -> None:
    overlay = np.asarray(Pillow.open(io.BytesIO(explained()._colored())).convert("RGBA"))
    np.testing.assert_array_equal(overlay[..., 3] > 0, marked() > 0)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"certainty": UNCERTAIN}, "Uncertain: do not rely on the label."),
        ({"domain": DOMAIN | {"status": "unlike"}}, "Unlike the training images"),
        ({"domain": DOMAIN | {"status": "unusual"}}, "Unusual image: do not rely"),
        ({"warning": "Placeholder weights."}, "Placeholder weights."),
    ],
)
def test_a_doubtful_result_has_no_large_label_and_another_frame(changes: dict[str, Any], reason: str) -> None:
    result = predicted(**changes)
    html = result._repr_html_()
    assert LARGE not in html
    assert f"<strong>{reason}" in html
    assert "Model output: normal" in html
    assert "dashed" in html
    assert "dashed" not in predicted()._repr_html_()
    assert result.doubts


def test_a_rejection_has_its_reason_and_no_large_label() -> None:
    rejected = RejectedImage(status=422, title="Unusable image", detail="Two frames.").showing(Path("a<b.png"))
    html = rejected._repr_html_()
    assert LARGE not in html
    assert "Could not be analysed: Unusable image" in html
    assert "Two frames." in html
    assert "a&lt;b.png" in html


def test_all_text_of_the_server_is_escaped() -> None:
    model = {"name": "chest", "version": SCRIPT, "sha256": None}
    names = {"label": SCRIPT, "probability": 0.75, "probabilities": {SCRIPT: 0.75, "normal": 0.25}}
    results = [
        predicted(model=model, **names),
        predicted(model=model, positive=None, threshold=None, **names),
        predicted(warning=SCRIPT),
        segmented(label=SCRIPT),
        RejectedImage(status=400, title=SCRIPT, detail=SCRIPT),
    ]
    html = Results(results)._repr_html_()
    assert "<script" not in html
    assert html.count("&lt;script&gt;") >= len(results)
    assert elements(html).tags <= {"div", "img", "strong"}


def test_a_file_is_read_when_it_is_shown_and_only_if_unchanged(tmp_path: Path) -> None:
    film = tmp_path / "film.png"
    film.write_bytes(FILM)
    result = predicted().showing(film)
    assert len(elements(result._repr_html_()).images) == 1
    film.write_bytes(png(marked()))
    assert elements(result._repr_html_()).images == []
    film.unlink()
    assert elements(result._repr_html_()).images == []


def test_an_image_that_browsers_cannot_show_or_would_show_differently_is_omitted() -> None:
    dicom = b"\0" * 128 + b"DICM"
    assert elements(predicted(dicom).showing(dicom)._repr_html_()).images == []
    assert elements(predicted(repair="rotate-90").showing(FILM)._repr_html_()).images == []
    (shown,) = elements(predicted(repair="invert").showing(FILM)._repr_html_()).images
    assert "invert(1)" in str(shown["style"])


def test_a_model_with_many_labels_shows_the_most_probable_ones() -> None:
    probabilities = {f"label {number}": (10 - number) / 55 for number in range(10)}
    best = {"label": "label 0", "probability": 10 / 55, "probabilities": probabilities}
    html = predicted(positive=None, threshold=None, **best)._repr_html_()
    assert "label 0, 18.2%" in html
    assert [f"label {number} " in html for number in (0, 4, 5)] == [True, True, False]
    assert "cut-off" not in html


def test_the_client_remembers_the_image(client: Client, tmp_path: Path) -> None:
    film = tmp_path / "film.png"
    film.write_bytes(FILM)
    assert client.predict("chest", str(film)).path == film
    assert client.predict("chest", FILM).path is None
    for result in (client.predict("chest", film), client.predict("chest", FILM), client.explain("chest", film)):
        assert elements(result._repr_html_()).images[0]["alt"] == "analysed image"
    (bad := tmp_path / "bad.png").write_bytes(b"bad")
    assert [item.path for item in client.predict_many("chest", [film, bad, b"one"])] == [film, bad, None]
    assert [item.path for item in client.predict_series("glioma", [film, bad]).predictions] == [film, bad]


def test_two_results_of_one_image_are_equal_wherever_it_came_from(client: Client, tmp_path: Path) -> None:
    (film := tmp_path / "film.png").write_bytes(FILM)
    assert client.predict("chest", film) == client.predict("chest", FILM)


def test_a_series_shows_its_volume_and_marked_slices(client: Client) -> None:
    series = client.predict_series("glioma", [FILM, b"empty"])
    html = series._repr_html_()
    assert "0.02 ml; 1 of 2 slices marked" in html
    assert [image["alt"] for image in elements(html).images] == ["analysed image", "overlay"]
    noted = series.predictions[1].model_copy(update={"notes": ("Equal channels.",)})
    html = series.model_copy(update={"predictions": (series.predictions[0], noted)})._repr_html_()
    assert "Equal channels. (1 of 2 slices)" in html
    assert "no volume: No volume: rejected." in client.predict_series("glioma", [FILM, b"bad"])._repr_html_()


def test_a_series_with_a_doubtful_mask_has_no_large_volume(odd: Scripted, client: Client) -> None:
    domain = DOMAIN | {"status": "unlike"}
    slices = [segmentation(FILM, domain=domain)]
    odd.say(document({"predictions": slices} | volume(slices)))
    assert LARGE not in client.predict_series("glioma", [FILM])._repr_html_()


def test_a_series_has_the_doubts_of_slices_on_which_nothing_is_marked(odd: Scripted, client: Client) -> None:
    doubtful = {"domain": DOMAIN | {"status": "unlike"}, "warning": "Placeholder weights."}
    slices = [empty(FILM) | doubtful, empty(b"other")]
    odd.say(document({"predictions": slices} | volume(slices)))
    html = client.predict_series("glioma", [FILM, b"other"])._repr_html_()
    assert LARGE not in html
    assert "dashed" in html
    assert "<strong>Placeholder weights. (1 of 2 slices)</strong>" in html
    assert "Unlike the training images: do not rely on the label. (1 of 2 slices)</strong>" in html


def test_a_series_names_its_model(client: Client) -> None:
    assert "glioma 1.0.0" in client.predict_series("glioma", [b"empty"])._repr_html_()


def test_many_results_are_counted_and_the_first_ones_shown(client: Client) -> None:
    results = client.predict_many("chest", [b"%d" % number for number in range(30)] + [b"bad"])
    results[0] = predicted(certainty=UNCERTAIN)
    html = results._repr_html_()
    assert "29 normal, 1 doubtful, 1 could not be analysed. The first 20 of 31:" in html
    assert html.count("chest 1.0.0") == 20
    assert "No images" in Results()._repr_html_()


def test_a_table_has_one_row_per_image_and_types(client: Client, tmp_path: Path) -> None:
    (film := tmp_path / "film.png").write_bytes(b"one")
    table = client.predict_many("chest", [film, b"bad"]).to_pandas()
    assert table["file"].tolist() == [str(film), pd.NA]
    assert table["status"].tolist() == [200, 400]
    assert table["label"].tolist() == ["normal", pd.NA]
    assert table["problem"].tolist() == [pd.NA, "Unreadable image: It is bad."]
    assert (table["probability"].dtype, table["positive"].dtype, table["width"].dtype) == (
        "Float64",
        "boolean",
        "Int64",
    )
    assert predicted().to_pandas().columns.tolist() == table.columns.tolist()
    assert Results().to_pandas().dtypes.tolist() == table.dtypes.tolist()


def test_a_series_is_a_table_of_slices(client: Client) -> None:
    table = client.predict_series("glioma", [b"one", b"empty"]).to_pandas()
    assert table["area_pixels"].tolist() == [20, 0]


@pytest.mark.parametrize("result", [predicted(), segmented(), explained()], ids=["label", "mask", "heat"])
def test_a_plot_shows_the_image_and_the_overlay(result: Prediction | Segmentation | Explanation) -> None:
    axes = result.showing(FILM).plot(mpl.figure.Figure().subplots())
    layers: list[Any] = [np.ma.filled(np.ma.asarray(layer.get_array()), 0) for layer in axes.get_images()]
    image, *overlays = layers
    assert (image == 90).all()
    for overlay in overlays:
        np.testing.assert_array_equal(overlay > 0, marked() > 0)
    assert len(overlays) == (0 if type(result) is Prediction else 1)


def test_a_plot_without_axes_has_its_own_figure() -> None:
    predicted().plot()
    assert len(plt.get_fignums()) == 1
    plt.close("all")


def test_a_plot_of_a_doubtful_result_says_so_first() -> None:
    figure = mpl.figure.Figure()
    axes = predicted(certainty=UNCERTAIN).plot(figure.subplots())
    assert axes.get_title().splitlines() == [
        "Uncertain: do not rely on the label.",
        "Model output: normal: pneumonia 25.0%, cut-off 50.0%",
    ]


def test_a_plot_is_of_the_repaired_image() -> None:
    pixels = np.zeros((20, 10), dtype=np.uint8)
    pixels[0, 0] = 255
    film = png(pixels)
    axes = predicted(film, repair="rotate-90").showing(film).plot(mpl.figure.Figure().subplots())
    shown = np.asarray(axes.get_images()[0].get_array())
    assert (shown.shape, shown[0, 19]) == ((10, 20), 255)


def test_without_pandas_and_matplotlib_the_error_says_what_to_install() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "pandas", None)
        patch.setitem(sys.modules, "matplotlib.pyplot", None)
        with pytest.raises(InvalidCallError, match="pip install pandas"):
            predicted().to_pandas()
        with pytest.raises(InvalidCallError, match="pip install matplotlib"):
            predicted().plot()


def test_a_card_needs_the_standard_library_only() -> None:
    code = (
        "import sys; sys.modules.update(dict.fromkeys(('numpy', 'PIL', 'pandas', 'matplotlib')));"
        "from radserve.schema.problem import RejectedImage;"
        "assert 'Two' in RejectedImage(status=422, title='t', detail='Two frames.')._repr_html_()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)

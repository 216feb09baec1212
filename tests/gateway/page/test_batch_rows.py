"""Rows of the table of many files, and their export."""

import base64
import csv
import io

import pytest
from playwright.sync_api import Page

from radserve import spreadsheet
from tests.gateway.fake_backend import prediction
from tests.gateway.page.conftest import Opener
from tests.gateway.page.predictions import UNLIKE, UNSURE, document, outline
from tests.gateway.page.scripted import IMAGE
from tests.gateways import Gateway

pytestmark = pytest.mark.e2e
ENTRIES = """async rows => {
    const { newRow, setResult } = await import("/js/batch_rows.js");
    const { exported } = await import("/js/batch_export.js");
    const made = rows.map(([path, prediction, repair = ""]) => {
        const row = newRow(new File([], path.split("/").at(-1)), path, { name: "chest", repair });
        setResult(row, { prediction, version: null, sent: {} });
        return row;
    });
    const entries = await exported(made);
    return [entries.map(({ path }) => path), entries.find(({ path }) => path === "results.csv").content];
}"""
ORDER = """async rows => {
    const { isMixed, newRow, setResult, sortRows } = await import("/js/batch_rows.js");
    const made = rows.map((prediction) => {
        const row = newRow(new File([], "a.png"), "a.png", { name: prediction.model.name, repair: "" });
        setResult(row, { prediction, version: null, sent: {} });
        return row;
    });
    const shares = sortRows(made, "probability", true).map(({ probability, area }) => probability ?? area);
    return [shares, isMixed(made), isMixed(made.slice(0, 2))];
}"""
UPDATE = """async ([prediction, data]) => {
    const { BatchTable } = await import("/js/batch_table.js");
    const { newRow, setResult } = await import("/js/batch_rows.js");
    const { Thumbnails } = await import("/js/thumbnails.js");
    const loaded = [];
    const file = await (await fetch(data)).blob();
    const thumbnails = new Thumbnails(async ({ name }) => { loaded.push(name); return file; });
    const table = new BatchTable({ onOpen() {}, thumbnails });
    document.body.append(table.element);
    const rows = ["", "invert"].map((repair) => newRow(new File([file], "a.png"), "a.png", { name: "chest", repair }));
    table.filter.search.value = "pneumonia";
    table.show(rows);
    await new Promise((resolve) => { setTimeout(resolve, 1100); });
    for (const row of rows) {
        setResult(row, { prediction, version: null, sent: {} });
        table.update(row);
    }
    await new Promise((resolve) => { setTimeout(resolve, 500); });
    return [table.order.length, loaded];
}"""
DESCRIBE = """async prediction => {
    const { measureText, newRow, setResult } = await import("/js/batch_rows.js");
    const row = newRow(new File([], "a.png"), "a.png", { repair: "" });
    setResult(row, { prediction, version: null, sent: {} });
    return [row.kind, row.text, measureText(row), row.threshold];
}"""


def test_exported_files_have_safe_and_different_names(modules: Page) -> None:
    rows = [
        ["a/1.2.840.1", document(0.9) | {"notes": ["Equal.", "Small."]}],
        ["a/1.2.840.2", outline(0.1)],
        ["a/x.dcm", document(0.9)],
        ["a/x.png", document(0.9)],
        ["a/x.png", document(0.9), "invert"],
        ["a/x.png", document(0.9)],
        [".. /.. /CON.png/ b. ", outline(0.1) | UNLIKE],
    ]
    paths, table = modules.evaluate(ENTRIES, rows)
    names = ["1.2.840.1", "1.2.840.2", "x.dcm", "x.png", "x.png (inverted)", "x.png (2)"]
    expected = [*(f"predictions/a/{name}.json" for name in names), "predictions/_/_/_CON.png/b.json"]
    assert [path for path in paths if path.startswith("predictions/")] == expected
    masks = ["masks/a/1.2.840.2.png", "masks-unreliable/_/_/_CON.png/b.png"]
    assert [path for path in paths if path.startswith("masks")] == masks
    lines = list(csv.DictReader(io.StringIO(table.removeprefix("\ufeff"))))
    assert [line["prediction_file"] for line in lines] == expected
    assert [line["mask_file"] for line in lines] == ["", masks[0], "", "", "", "", masks[1]]
    assert [line["notes"] for line in lines] == ["Equal. Small.", "", "", "", "", "", ""]
    assert [line["marked_fraction"] for line in lines] == ["", "0.1", "", "", "", "", ""]


def test_values_of_different_models_are_not_mixed(modules: Page) -> None:
    newer = document(0.7) | {"model": {"name": "chest", "version": "2.0.0", "sha256": None}}
    rows = [document(0.2), document(0.9), outline(0.5), newer, outline(0.8)]
    assert modules.evaluate(ORDER, rows) == [[0.8, 0.5, 0.9, 0.7, 0.2], True, False]


def test_rows_appear_when_their_result_passes_the_text_filter(opened: Opener, static_gateway: Gateway) -> None:
    page = opened(static_gateway.url, bypass_csp=True)
    data = f"data:image/png;base64,{base64.b64encode(IMAGE).decode()}"
    assert page.evaluate(UPDATE, [document(0.9), data]) == [2, ["a.png (inverted)"]]


def test_cells_are_protected_as_on_the_server(modules: Page) -> None:
    values = [
        "=1",
        " =1",
        "a=1",
        "a,=1",
        "a;\t+1",
        "-1|-2",
        "\n@x",
        "\ttext",
        "\uff1d1",
        "x|\uff0b1",
        "a, b",
        "",
        'say "hi"',
        "a\u00a0=1",
    ]
    cells = modules.evaluate('async values => values.map((await import("/js/csv.js")).cell)', values)
    assert cells == [spreadsheet.cell(value) for value in values]


def test_rows_of_other_tasks_name_no_label_that_is_uncertain(modules: Page) -> None:
    ranked = prediction(IMAGE, positive=None, threshold=None)
    marked = outline(0.02)
    for answered, row in (
        (document(0.51) | UNSURE, ["uncertain", "Uncertain: no reliable label", "\N{EN DASH}", None]),
        (ranked, ["ranked", "Normal", "75.0%", None]),
        (ranked | UNSURE, ["uncertain", "Uncertain: no reliable label", "\N{EN DASH}", None]),
        (ranked | UNLIKE, ["doubtful", "No result: unlike the training images", "\N{EN DASH}", None]),
        (marked, ["positive", "Tumour marked", "2.0% of image", None]),
        (marked | UNLIKE, ["doubtful", "No result: unlike the training images", "\N{EN DASH}", None]),
    ):
        assert modules.evaluate(DESCRIBE, answered) == row

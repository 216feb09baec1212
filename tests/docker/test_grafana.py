"""Grafana's dashboards; tests/e2e/test_monitoring.py runs their queries."""

import itertools
import json
import re
import runpy
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT

FOLDER = ROOT / "docker" / "grafana"
DASHBOARDS: dict[str, dict[str, Any]] = {
    path.name: json.loads(path.read_bytes()) for path in sorted((FOLDER / "dashboards").glob("*.json"))
}
PANELS = [
    pytest.param(name, panel, id=f"{name}: {panel['title']}")
    for name, dashboard in DASHBOARDS.items()
    for panel in dashboard["panels"]
    if panel["type"] != "row"
]


def test_dashboards_are_up_to_date_with_their_source() -> None:
    generated = runpy.run_path(str(FOLDER / "make.py"))["dashboards"]()
    files = {path.name: path.read_text() for path in (FOLDER / "dashboards").iterdir()}
    assert files == generated, "run: python docker/grafana/make.py"


def test_the_runbook_names_existing_dashboards_and_panels() -> None:
    boards = DASHBOARDS.values()
    titles = {item["title"] for board in boards for item in (board, *board["panels"])}
    page = (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")
    names = set(re.findall(r"(?<![*\w])\*([^*\n]+)\*(?!\*)", page))
    assert "Queue" in names
    assert names <= titles


@pytest.mark.parametrize("name", DASHBOARDS)
def test_dashboard_can_be_provisioned(name: str) -> None:
    dashboard = DASHBOARDS[name]
    assert f"{dashboard['uid']}.json" == name
    assert len(dashboard["uid"]) <= 40
    assert dashboard["schemaVersion"] >= 39
    assert "id" not in dashboard, "an id of its own is the database's business"
    numbers = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(numbers)) == len(numbers)
    assert {item["name"]: item["type"] for item in dashboard["templating"]["list"]}["datasource"] == "datasource"


@pytest.mark.parametrize("name", DASHBOARDS)
def test_panels_do_not_overlap_and_fit_the_page(name: str) -> None:
    results: set[tuple[int, int]] = set()
    for panel in DASHBOARDS[name]["panels"]:
        place = panel["gridPos"]
        across = range(place["x"], place["x"] + place["w"])
        cells = set(itertools.product(across, range(place["y"], place["y"] + place["h"])))
        assert max(across) < 24
        assert not cells & results, panel["title"]
        results |= cells


@pytest.mark.parametrize(("name", "panel"), PANELS)
def test_panel_uses_the_data_source_and_the_variables(name: str, panel: dict[str, Any]) -> None:
    variables = {item["name"] for item in DASHBOARDS[name]["templating"]["list"]}
    assert panel["targets"]
    for target in panel["targets"]:
        assert target["datasource"] == panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert "<" not in target["expr"].replace("<=", "")
        used = {word.split("}")[0].strip('",){ ') for word in target["expr"].split("$")[1:]}
        assert {word.split('"')[0].split("]")[0] for word in used} <= variables | {"__rate_interval"}


def test_provisioning_matches_the_mounts_of_compose() -> None:
    compose = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_bytes())["services"]
    mounts = compose["grafana"]["volumes"]
    assert "./grafana/provisioning:/etc/grafana/provisioning:ro" in mounts
    provider = yaml.safe_load((FOLDER / "provisioning" / "dashboards" / "radserve.yaml").read_bytes())["providers"][0]
    assert f"./grafana/dashboards:{provider['options']['path']}:ro" in mounts
    (source,) = yaml.safe_load((FOLDER / "provisioning" / "datasources" / "prometheus.yaml").read_bytes())[
        "datasources"
    ]
    assert source["url"] == "http://prometheus:9090"
    assert "prometheus" in compose

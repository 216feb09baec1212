"""Generate Grafana's dashboards from dashboards.yaml: python docker/grafana/make.py."""  # noqa: INP001 - a script

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

FOLDER: Final = Path(__file__).resolve().parent
_SCHEMA: Final = 41
"""Version of the dashboard schema in Grafana 12."""
_WIDTH: Final = 8
_COLUMNS: Final = 24
_HEIGHTS: Final = {"stat": 4}
_SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
_MODEL: Final = 'model_name=~"$model", model_version=~"$version"'
_OPTIONS: Final[Mapping[str, Any]] = {
    "timeseries": {
        "legend": {"displayMode": "list", "placement": "bottom"},
        "tooltip": {"mode": "multi", "sort": "desc"},
    },
    "stat": {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "none", "graphMode": "none"},
    "heatmap": {"calculate": False, "color": {"mode": "scheme", "scheme": "Blues"}, "yAxis": {"axisPlacement": "left"}},
    "table": {"showHeader": True},
}


def dashboards() -> dict[str, str]:
    """Return the content of each dashboard by file name."""
    plans = yaml.safe_load((FOLDER / "dashboards.yaml").read_text(encoding="utf-8"))
    return {f"{plan['name']}.json": json.dumps(_dashboard(plan), separators=(",", ":")) + "\n" for plan in plans}


def _dashboard(plan: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "uid": plan["name"],
        "title": plan["title"],
        "tags": ["radserve"],
        "schemaVersion": _SCHEMA,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": [_source(), *(_variable(*item) for item in plan["variables"].items())]},
        "links": [{"type": "dashboards", "title": "RadServe", "tags": ["radserve"], "keepTime": True}],
        "panels": list(_panels(plan["rows"])),
    }


def _source() -> dict[str, Any]:
    return {"name": "datasource", "label": "Source", "type": "datasource", "query": "prometheus"}


def _variable(name: str, query: str) -> dict[str, Any]:
    return {
        "name": name,
        "label": name.capitalize(),
        "type": "query",
        "datasource": _SOURCE,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
    }


def _panels(rows: list[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Arrange the panels: rows from top to bottom, panels of a row from left to right."""
    number = top = 0
    for row in rows:
        number += 1
        yield {
            "id": number,
            "type": "row",
            "title": row["title"],
            "collapsed": False,
            "gridPos": _position(0, top, 24, 1),
        }
        top, left, height = top + 1, 0, 0
        for plan in row["panels"]:
            width, tall = plan.get("width", _WIDTH), _HEIGHTS.get(plan.get("kind", ""), _WIDTH)
            if left + width > _COLUMNS:
                top, left, height = top + height, 0, 0
            number += 1
            yield _panel(plan, number, _position(left, top, width, tall))
            left, height = left + width, max(height, tall)
        top += height


def _position(left: int, top: int, width: int, height: int) -> dict[str, int]:
    return {"x": left, "y": top, "w": width, "h": height}


def _panel(plan: Mapping[str, Any], number: int, position: Mapping[str, int]) -> dict[str, Any]:
    kind = plan.get("kind", "timeseries")
    custom = {"fillOpacity": 20, "stacking": {"mode": "normal"}} if plan.get("stack") else {}
    options = dict(_OPTIONS[kind])
    if kind == "stat":
        options["textMode"] = plan.get("show", "auto")
    return {
        "id": number,
        "type": kind,
        "title": plan["title"],
        "description": plan.get("help", ""),
        "datasource": _SOURCE,
        "gridPos": position,
        "fieldConfig": {"defaults": {"unit": plan.get("unit", "short"), "min": 0, "custom": custom}, "overrides": []},
        "options": options,
        "targets": [
            _target(kind, *item) for item in zip("ABCD", *zip(*plan["queries"].items(), strict=True), strict=False)
        ],
    }


def _target(kind: str, letter: str, legend: str, query: str) -> dict[str, Any]:
    return {
        "refId": letter,
        "datasource": _SOURCE,
        "expr": query.replace("<model>", _MODEL),
        "legendFormat": legend,
        "format": kind if kind in ("heatmap", "table") else "time_series",
        "instant": kind == "table",
        "range": kind != "table",
    }


if __name__ == "__main__":
    for name, text in dashboards().items():
        (FOLDER / "dashboards" / name).write_text(text, encoding="utf-8")

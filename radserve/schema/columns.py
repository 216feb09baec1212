"""Columns of a table of results, as CSV files and data frames have them."""

from collections.abc import Iterable, Mapping
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

from radserve.errors import InvalidCallError

if TYPE_CHECKING:
    import pandas as pd

RESULT: Final = {
    "warning": "warning",
    "result": "verdict",
    "label": "label",
    "probability": "probability",
    "positive_label": "positive_label",
    "positive_probability": "positive_probability",
    "certainty": "certainty.status",
    "second_label": "certainty.second_label",
    "prevalence": "prevalence",
    "positive": "positive",
    "threshold": "threshold",
    "area_pixels": "area.pixels",
    "area_fraction": "area.fraction",
    "area_mm2": "area.mm2",
    "box_left": "box.left",
    "box_top": "box.top",
    "box_width": "box.width",
    "box_height": "box.height",
    "model": "model.name",
    "version": "model.version",
    "model_sha256": "model.sha256",
    "format": "image.format",
    "width": "image.width",
    "height": "image.height",
    "frame": "image.frame",
    "image_sha256": "image.sha256",
    "unchecked": "unchecked",
    "notes": "notes",
    "domain_mode": "domain.mode",
    "domain_status": "domain.status",
    "domain_percentile": "domain.percentile",
    "domain_reason": "domain.reason",
    "repair": "repair",
    "profile": "profile.name",
    "profile_sha256": "profile.sha256",
}
"""Columns of a result and its attributes; those that it lacks are empty."""

ADDED: Final = ("result", "positive_label", "positive_probability")
"""Columns of which the document of a server has no key."""

NAMES: Final = ("file", "status", *RESULT, "problem")
"""All columns: `status` is 200, or that of the rejection, whose reason is the `problem`."""


TYPES: Final = (
    dict.fromkeys(
        (
            *("probability", "positive_probability", "threshold", "prevalence"),
            *("area_fraction", "area_mm2", "domain_percentile"),
        ),
        "Float64",
    )
    | dict.fromkeys(("status", "area_pixels", "box_left", "box_top", "box_width", "box_height"), "Int64")
    | {"width": "Int64", "height": "Int64", "frame": "Int64", "positive": "boolean"}
)
"""Types of pandas, which allow empty cells; the other columns are text."""


def of_result(file: str | None, result: object) -> dict[str, Any]:
    """Return the row of a result."""
    return {"file": file, "status": 200} | {column: value(result, names) for column, names in RESULT.items()}


def added(result: object) -> dict[str, Any]:
    """Return the columns that the document of a server lacks, without empty ones."""
    values = {name: value(result, RESULT[name]) for name in ADDED}
    return {name: item for name, item in values.items() if item is not None}


def of_problem(file: str | None, status: int | None, title: str, detail: str) -> dict[str, Any]:
    """Return the row of an image without a result."""
    return {"file": file, "status": status, "problem": f"{title}: {detail}"}


def of_domain(domain: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the columns of a comparison with the training images that is the reason of a rejection."""
    return {f"domain_{name}": domain.get(name) for name in ("mode", "status", "percentile", "reason")} if domain else {}


def value(result: object, names: str) -> Any:
    """Return an attribute, which may be nested (`model.name`), or None if the result lacks it; tuples as text."""
    try:
        item = attrgetter(names)(result)
    except AttributeError:
        return None
    return ", ".join(item) if isinstance(item, tuple) else item


def frame(rows: Iterable[dict[str, Any]]) -> "pd.DataFrame":
    """Return a data frame with every column; raises InvalidCallError without pandas."""
    try:
        import pandas as pd
    except ModuleNotFoundError as error:
        raise InvalidCallError("pandas is not installed; install it: pip install pandas") from error
    table = pd.DataFrame(rows, columns=list(NAMES), dtype=object)
    return table.astype({name: TYPES.get(name, "string") for name in NAMES})

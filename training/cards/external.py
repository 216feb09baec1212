"""Section of a model card: figures on images of other sources, apart from those of the validation part."""

from collections.abc import Iterator, Mapping

from training.cards.markdown import metric, metric_name, metrics_table, table
from training.metrics.report import External, Report, Subgroup


def section(measured: Report | None) -> Iterator[str]:
    """Return the paragraphs; none without external figures."""
    if measured is None or not measured.external:
        return
    yield "## External results"
    yield (
        "Measured on images of other sources. None of them has the same bytes as an image of the training or "
        "validation part; resized copies would not be noticed."
    )
    for part in measured.external:
        yield from _part(part)


def _part(part: External) -> Iterator[str]:
    labels = ", ".join(f"{count} {label}" for label, count in part.images.labels.items())
    yield f"### {part.name}"
    yield f"{part.images.images} images ({labels}) of {part.images.groups} groups. In parentheses: {part.interval}."
    yield metrics_table(part.metrics)
    for attribute, rows in part.subgroups.items():
        yield f"By {attribute}; metrics only of subgroups with enough images:"
        yield _subgroups(attribute, rows)
    yield f"Created by `{part.command}`; SHA-256 of the list of images `{part.sha256}`."


def _subgroups(attribute: str, rows: Mapping[str, Subgroup]) -> str:
    keys = list(dict.fromkeys(key for row in rows.values() for key in row.metrics or {}))
    return table(
        (attribute, "images", *map(metric_name, keys)),
        [
            (name, row.images, *(metric(row.metrics[key]) if row.metrics else "-" for key in keys))
            for name, row in rows.items()
        ],
    )

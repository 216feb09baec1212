"""HTML of results in notebooks: cards with a heading, bars, pictures and notes. All text is escaped."""

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from radserve.schema.percentage import comparison
from radserve.schema.png_writer import Color, colored

DISCLAIMER: Final = "Not a medical device. For research only; do not use it for patient care."
_TYPES: Final = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"BM": "image/bmp",
    b"GIF8": "image/gif",
}
"""First bytes of images that browsers show."""
_MAX_SHOWN: Final = 5_000_000  # bytes of an image in a notebook
_WIDTH: Final = "20em"
_STYLE: Final = {
    "result": "border-left:4px solid #2463eb;",
    "doubtful": "border:2px dashed #b45309;",
    "rejected": "border:1px solid #6b7280;border-left:4px solid #6b7280;",
}
"""Frames by tone; they differ in their lines, not in their colour alone."""


@dataclass(frozen=True)
class Heading:
    """First line of a result; it is large only without `doubts`, the reasons not to rely on the label."""

    text: str
    doubts: tuple[str, ...] = ()


def card(heading: Heading, parts: Iterable[str], notes: Sequence[str]) -> str:
    """Return the card of a result: large heading, or the doubts and a small one."""
    if heading.doubts:
        first = "".join(f"<div><strong>{escape(doubt)}</strong></div>" for doubt in heading.doubts)
        first += f"<div>Model output: {escape(heading.text)}</div>"
    else:
        first = f'<div style="font-size:1.3em;font-weight:600">{escape(heading.text)}</div>'
    return _framed("doubtful" if heading.doubts else "result", [first, *parts], [*notes, DISCLAIMER])


def rejection(title: str, detail: str, notes: Sequence[str]) -> str:
    """Return the card of an image without a result."""
    first = f"<div><strong>Could not be analysed: {escape(title)}</strong></div><div>{escape(detail)}</div>"
    return _framed("rejected", [first], notes)


def bar(label: str, probability: float, threshold: float | None = None) -> str:
    """Return a bar for a probability, with a line at the cut-off."""
    text = escape(comparison(label, probability, threshold))
    mark = ""
    if threshold is not None:
        mark = f'<div style="position:absolute;left:{threshold:.2%};top:-2px;bottom:-2px;border-left:2px solid"></div>'
    fill = f'<div style="width:{probability:.2%};height:100%;background:#2463eb"></div>'
    track = f"position:relative;width:{_WIDTH};max-width:100%;height:.7em;background:#8884"
    return f'<div style="margin:.4em 0"><div>{text}</div><div style="{track}">{fill}{mark}</div></div>'


def picture(image: bytes | None, overlay: bytes | None, *, inverted: bool = False) -> str:
    """Return an image (a file that browsers show, else it is omitted) with a PNG on top of it."""
    shown = _data_url(image)
    style = "display:block;width:100%;image-rendering:auto"
    layers = []
    if shown is not None:
        effect = ";filter:invert(1)" if inverted else ""
        layers.append(f'<img alt="analysed image" src="{shown}" style="{style}{effect}">')
    if overlay is not None:
        place = "" if shown is None else ";position:absolute;left:0;top:0;height:100%"
        back = ";background:#000" if shown is None else ""
        layers.append(f'<img alt="overlay" src="{_data_url(overlay)}" style="{style}{place}{back}">')
    if not layers:
        return ""
    return f'<div style="position:relative;width:{_WIDTH};max-width:100%">{"".join(layers)}</div>'


def mask_overlay(width: int, height: int, rows: Iterable[bytes]) -> bytes:
    """Return a mask as a PNG that colours what is marked."""
    return colored(width, height, rows, lambda value: (255, 0, 255, 110 if value else 0))


def heat_overlay(width: int, height: int, rows: Iterable[bytes]) -> bytes:
    """Return a heat map as a PNG in viridis, transparent where it is 0."""
    return colored(width, height, rows, _heat)


def _heat(value: int) -> Color:
    from handlers.colour_map import heat_colour  # only notebooks need it

    return *heat_colour(value / 255), value * 180 // 255


def _data_url(content: bytes | None) -> str | None:
    if content is None or len(content) > _MAX_SHOWN:
        return None
    kind = next((kind for magic, kind in _TYPES.items() if content.startswith(magic)), None)
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        kind = "image/webp"
    return kind and f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _framed(tone: str, parts: Iterable[str], notes: Iterable[str]) -> str:
    small = "".join(f'<div style="font-size:.85em;opacity:.8">{escape(note)}</div>' for note in notes if note)
    return f'<div style="{_STYLE[tone]}padding:.5em 1em;margin:.5em 0">{"".join(parts)}{small}</div>'

"""What a reader must know besides the values of a result."""

from collections import Counter
from collections.abc import Sequence

from radserve.dicom.common import NOTICE
from radserve.schema.prediction import ImageResult
from radserve.schema.segmentation import Volume


def remarks(results: Sequence[ImageResult], volume: Volume | None = None) -> list[str]:
    """Return the notice, then reasons not to rely on the result of an image or series, then other remarks."""
    counts = Counter(doubt for result in results for doubt in result.doubts)
    several = f" ({{}} of {len(results)} slices)" if len(results) > 1 else ""
    texts = [doubt + several.format(count) for doubt, count in counts.items()]
    notes = Counter(note for result in results for note in result.notes)
    texts += [note + several.format(count) for note, count in notes.items()]
    if rejected := rejected_slices(results, volume):
        texts.append(f"{rejected} of {rejected + len(results)} slices were not analysed.")
    if volume is not None and volume.reason:
        texts.append(volume.reason)
    unchecked = dict.fromkeys(name for result in results for name in result.unchecked)
    if unchecked:
        texts.append(f"Not stated by the file, so not checked: {', '.join(unchecked)}.")
    if results[0].repair is not None:
        texts.append(f"The image was changed before the analysis: {results[0].repair}.")
    return [NOTICE, *texts]


def rejected_slices(results: Sequence[ImageResult], volume: Volume | None) -> int:
    """Return how many slices of a series have no result."""
    return 0 if volume is None else volume.slices - len(results)

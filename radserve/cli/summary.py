"""Says at the end of `radserve predict` what became of the images."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from radserve.cli.report import Outcome, Problem
from radserve.cli.terminal import counted, safe

_NAMED: Final = 5  # failed images that are listed


@dataclass
class Summary:
    """Counts the outcomes of one call; `out` is its file of results, if any."""

    out: Path | None = None
    analysed: int = 0
    without_dicom: int = 0
    failed: int = 0
    _reasons: list[str] = field(default_factory=list)  # of the first failed images

    def add(self, outcome: Outcome) -> None:
        """Count one outcome."""
        self.without_dicom += outcome.without_dicom is not None
        if not isinstance(outcome.result, Problem):
            self.analysed += 1
            return
        self.failed += 1
        if len(self._reasons) < _NAMED:
            self._reasons.append(safe(f"{outcome.file}: {outcome.result}").plain)

    def lines(self, *notes: str) -> list[str]:
        """Return the counts with notes, the file of results, and the first failed images, which other reports show."""
        counts = f"{counted(self.analysed, 'image')} analysed, {self.failed} failed."
        if self.out is None:
            return [" ".join([counts, *notes])]
        more = self.failed - len(self._reasons)
        rest = [f"and {more} more: see `problem` in {self.out}"] if more else []
        return [
            " ".join([counts, *notes, f"Results: {self.out}"]),
            *(f"Failed: {reason}" for reason in self._reasons),
            *rest,
        ]

"""Says at the end of `radserve predict` what became of the images."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from radserve.cli.notes import Notes
from radserve.cli.report import Outcome, Problem
from radserve.cli.terminal import counted, safe

_NAMED: Final = 5  # failed files that are listed


@dataclass
class Summary:
    """Counts the outcomes of one call; `out` is its file of results, if any."""

    out: Path | None = None
    analysed: int = 0
    failed: int = 0
    without_result: int = 0  # analysed images that are unusual or unlike the training images
    _verdicts: Counter[str] = field(default_factory=Counter)  # of results that are not their label
    _reasons: Counter[str] = field(default_factory=Counter)  # of the first failed files, with the number of frames
    _notes: Notes = field(default_factory=Notes)

    def add(self, outcome: Outcome) -> None:
        """Count one outcome."""
        result = outcome.result
        self._notes.add(outcome)
        if not isinstance(result, Problem):
            self.analysed += 1
            self.without_result += not result.has_result
            if result.verdict != result.label:
                self._verdicts[result.verdict] += 1
            return
        self.failed += 1
        reason = safe(f"{outcome.file}: {result}").plain
        if reason in self._reasons or len(self._reasons) < _NAMED:
            self._reasons[reason] += 1

    def lines(self, *notes: str) -> list[str]:
        """Return the counts with notes; if there is a file of results, after what other reports show."""
        verdicts = "; ".join(f"{count} {verdict}" for verdict, count in self._verdicts.items())
        counts = f"{counted(self.analysed, 'image')} analysed{verdicts and f' ({verdicts})'}, {self.failed} failed."
        if self.out is None:
            return [" ".join([counts, *notes])]
        more = self.failed - self._reasons.total()
        return [
            *self._notes.lines(),
            *(f"Failed: {reason}{f' ({count} frames)' * (count > 1)}" for reason, count in self._reasons.items()),
            *([f"and {more} more: see `problem` in {self.out}"] if more else []),
            " ".join([counts, *notes, f"Results: {self.out}"]),
        ]

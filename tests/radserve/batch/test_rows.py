"""Rows of a batch job as Parquet."""

import subprocess
import sys

_COUNT_THREADS = """
import os
from radserve.batch import rows
content = rows.to_parquet([{"file": "a.png", "status": 200}])
before = len(os.listdir("/proc/self/task"))
assert [row["file"] for row in rows.from_parquet(content)] == ["a.png"]
print(len(os.listdir("/proc/self/task")) - before)
"""


def test_reading_rows_starts_no_thread_that_could_abort_the_end_of_the_program() -> None:
    result = subprocess.run([sys.executable, "-c", _COUNT_THREADS], capture_output=True, text=True, check=True)
    assert int(result.stdout) == 0

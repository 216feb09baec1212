"""What the loop sets for its process."""

import logging
import warnings

import pytest

from radserve.dicom.source import quiet
from radserve.pacs import loop


def test_pydicom_stays_silent_while_threads_suppress_its_warnings(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("pydicom")
    before, first, second = logger.level, quiet(), quiet()
    with warnings.catch_warnings(record=True) as shown:
        loop.silence_pydicom()
        try:
            first.__enter__()
            second.__enter__()
            first.__exit__(None, None, None)
            warnings.warn("PatientName", stacklevel=1)
            second.__exit__(None, None, None)
            warnings.warn("PatientName", stacklevel=1)
            logging.getLogger("pydicom.pixels").error("PatientName")
        finally:
            logger.setLevel(before)
    assert (shown, caplog.records) == ([], [])

"""What the loop sets for its process."""

import logging
import warnings
from contextlib import ExitStack

import pytest

from radserve.dicom.source import quiet
from radserve.pacs import loop


def test_pydicom_stays_silent_while_threads_suppress_its_warnings(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("pydicom")
    before, first, second = logger.level, ExitStack(), ExitStack()
    with warnings.catch_warnings(record=True) as shown:
        loop.silence_pydicom()
        try:
            first.enter_context(quiet())
            second.enter_context(quiet())
            first.close()
            warnings.warn("PatientName", stacklevel=1)
            second.close()
            warnings.warn("PatientName", stacklevel=1)
            logging.getLogger("pydicom.pixels").error("PatientName")
        finally:
            logger.setLevel(before)
    assert (shown, caplog.records) == ([], [])

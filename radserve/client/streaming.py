"""Reads the events of a gateway that analyses several images (docs/gateway.md)."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import httpx

from radserve.client import predictions, response, validation
from radserve.client.call import Call
from radserve.client.conditions import Conditions
from radserve.client.predictions import Result
from radserve.client.sources import EncodedImage
from radserve.errors import InvalidResponseError, RejectedRequestError

MEDIA_TYPE: Final = "text/event-stream"
_ITEMS: Final = ("prediction", "rejection")


class Batch:
    """Images of one request, and which of them have no result yet."""

    def __init__(
        self, name: str, version: str | None, images: Sequence[EncodedImage], conditions: Conditions, first: int
    ) -> None:
        self._images = images
        self._target = name, version
        self._conditions = conditions
        self._requested = [predictions.requested(name, version, image, conditions) for image in images]
        self._first = first  # index of the first image among all of the caller
        self._missing = set(range(len(images)))
        self._event = ""
        self._is_done = False
        call = predictions.predict_batch(name, version, images, conditions)
        headers = call.options["headers"] | {"Accept": MEDIA_TYPE}
        self.call: Call[Any] = replace(call, server=None, options=call.options | {"headers": headers})

    def begin(self, reply: httpx.Response) -> None:
        """Raise a ProblemError or InvalidResponseError unless a response has events."""
        response.require_ok(reply)
        response.require_type(reply, MEDIA_TYPE)

    def parts(self, error: RejectedRequestError) -> list["Batch"]:
        """Return a batch for each of several images that are too large together; raises any other error again."""
        single = predictions.singly(self._images, error)
        return [
            Batch(*self._target, images, self._conditions, index) for index, images in enumerate(single, self._first)
        ]

    def rejected(self, error: RejectedRequestError) -> tuple[int, Result]:
        """Return the rejection of the only image, which is too large for a request; raises any other error again."""
        (result,) = predictions.rejected_alone(self._images, error)
        return self._first, result

    def read(self, line: str) -> tuple[int, Result] | None:
        """Return the index and result that a line holds, None for any other line; raises ClientErrors."""
        field, _, value = line.partition(": ")
        if field == "event":
            self._event = value
        elif field == "data":
            return self._data(value)
        return None

    def require_complete(self) -> None:
        """Raise InvalidResponseError unless every image had a result."""
        if not self._is_done or self._missing:
            raise InvalidResponseError(
                f"The response ended without results for {len(self._missing)} of {len(self._images)} images; send "
                "these again."
            )

    def _data(self, text: str) -> tuple[int, Result] | None:
        if self._event == "error":
            raise response.streamed_problem(text)
        self._is_done = self._is_done or self._event == "done"
        if self._event not in _ITEMS:
            return None
        try:
            document = json.loads(text)
            index, item = document["index"], document["result"]
            self._missing.remove(index)
        except (ValueError, RecursionError, KeyError, TypeError) as error:
            raise InvalidResponseError(f"The response has an invalid event ({type(error).__name__}).") from error
        (result,) = validation.result_list({"predictions": [item]}, [self._requested[index]])
        return self._first + index, result.showing(predictions.picture_of(self._images[index]))

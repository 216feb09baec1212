"""Replaces the part of TorchServe's `context` that a handler uses for the requests of one batch.

Processes that load the handlers of an archive import this module first, so it imports no part of the project.
"""

from collections.abc import Mapping, Sequence


class BatchContext:
    """Headers of the requests of one batch, by lower-case name, and what the handler sets for their responses."""

    def __init__(self, headers: Sequence[Mapping[str, str]]) -> None:
        self._requests = headers
        self._statuses = [500] * len(headers)
        self._media_types = [""] * len(headers)
        self._headers: list[dict[str, str]] = [{} for _ in headers]

    def get_all_request_header(self, index: int) -> Mapping[str, str]:
        """Return the headers of a request."""
        return self._requests[index]

    def set_response_status(self, code: int, phrase: str, idx: int) -> None:  # noqa: ARG002 - TorchServe's names
        """Set the status of a response."""
        self._statuses[idx] = code

    def set_response_content_type(self, idx: int, value: str) -> None:
        """Set the media type of a response."""
        self._media_types[idx] = value

    def set_response_header(self, idx: int, key: str, value: str) -> None:
        """Set a header of a response."""
        self._headers[idx][key] = value

    def responses(self, bodies: Sequence[bytes]) -> list[tuple[int, str, bytes, dict[str, str]]]:
        """Return status, media type, body and headers of each response."""
        return list(zip(self._statuses, self._media_types, bodies, self._headers, strict=True))

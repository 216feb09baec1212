"""The model under LitServe: `python -m benchmarks.peers.litserve_app PORT WORKERS NAME`."""

import sys
from typing import Any

import litserve
from fastapi import Request

from benchmarks.peers.model import Model


class _Api(litserve.LitAPI):  # type: ignore[misc]
    def setup(self, device: str) -> None:  # noqa: ARG002 - LitServe's name
        self._model = Model.of_environment()

    async def decode_request(self, request: Request) -> bytes:
        return await request.body()

    def batch(self, inputs: list[bytes]) -> list[bytes]:
        return inputs

    def predict(self, inputs: list[bytes]) -> list[dict[str, Any]]:
        return self._model(inputs)

    def unbatch(self, output: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return output

    def encode_response(self, output: dict[str, Any]) -> dict[str, Any]:
        return output


def main(port: str, workers: str, name: str) -> None:
    """Serve."""
    api = _Api(max_batch_size=4, batch_timeout=0.001, api_path=f"/predictions/{name}")
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=int(workers))
    server.run(host="127.0.0.1", port=int(port), log_level="warning", generate_client_file=False)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""The model under FastAPI: `uvicorn --factory benchmarks.peers.fastapi_app:create`."""

from typing import Any

from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool

from benchmarks.peers.model import Model


def create() -> FastAPI:
    """Create the application of one process."""
    model, app = Model.of_environment(), FastAPI()

    @app.post("/predictions/{name}")
    async def predict(name: str, request: Request) -> dict[str, Any]:  # noqa: ARG001 - the path is TorchServe's
        body = await request.body()
        (prediction,) = await run_in_threadpool(model, [body])
        return prediction

    @app.get("/health")
    def health() -> None:
        pass

    return app

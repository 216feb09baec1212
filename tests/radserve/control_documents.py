"""Documents of the control API, and a scripted server that keeps a deployment."""

import json
from typing import Any

from radserve.schema.deployment import Deployment
from radserve.versions.deployment_file import changes, parse, validate
from tests.radserve.scripted import Reply, Request, Script, document, problem

SHA256 = "ab" * 32
STARTED = "2026-03-01T12:00:00Z"


def version(number: str = "1.0.0", /, **changes: Any) -> dict[str, Any]:
    """Return the status of a version, with changes."""
    return {
        "version": number,
        "sha256": SHA256,
        "size": 4_200_000,
        "state": "ready",
        "default": number == "1.0.0",
        "share": 100 if number == "1.0.0" else 0,
        "workers": {"wanted": 2, "ready": 2},
        "registered": STARTED,
        "age_seconds": 3 * 86400 + 60,
        "requests": 200,
        "errors": 2,
        "rejections": 5,
        "latency": {"p50": 0.0042, "p95": 0.312},
        "newer": "a key that this client does not know",
    } | changes


def rollout(**changes: Any) -> dict[str, Any]:
    """Return the status of a running rollout, with changes."""
    return {
        "name": "chest",
        "version": "1.1.0",
        "before": "1.0.0",
        "phase": "canary",
        "done": False,
        "succeeded": None,
        "share": 5,
        "steps": [5, 25, 100],
        "step": 0,
        "started": STARTED,
        "step_started": STARTED,
        "detail": "7 of 20 requests seen",
        "candidate": {"requests": 7, "errors": 0, "p95": 0.01},
        "stable": {"requests": 133, "errors": 1, "p95": 0.009},
        "shadow": None,
    } | changes


PROMOTED = rollout(
    phase="promoted", done=True, succeeded=True, share=100, step=2, detail="All steps went well.", candidate=None
)
ROLLED_BACK = rollout(
    phase="rolled_back", done=True, succeeded=False, share=0, detail="3 of 20 requests failed; --max-error is 1%."
)
SHADOWED = rollout(
    phase="shadowed",
    done=True,
    succeeded=True,
    share=0,
    step=None,
    detail="Compared 190 answers.",
    candidate=None,
    stable=None,
    shadow={
        "copies": 200,
        "compared": 190,
        "agreeing": 189,
        "dropped": 8,
        "failed": 2,
        "largest_difference": 0.25,
        "images": {"domain": 12, "label": 190},
        "shifts": {"label": 0.3},
        "candidate": {"p50": 0.011, "p95": 0.02},
        "stable": {"p50": 0.010, "p95": 0.019},
        "examples": [{"request_id": "abc123", "stable": "normal 0.6", "candidate": "pneumonia 0.55"}],
    },
)


def model(**changes: Any) -> dict[str, Any]:
    """Return the status of a model with two versions, with changes."""
    versions = [version(), version("1.1.0", state="degraded", workers={"wanted": 2, "ready": 1}, latency=None)]
    return {"name": "chest", "versions": versions, "previous": "0.9.0", "rollout": None} | changes


def overview(*, front: bool = True, **changes: Any) -> dict[str, Any]:
    """Return the status of a server with one model, with changes."""
    return {"front": front, "models": [model(**changes)]}


QUARANTINED = {"version": "1.2.0", "sha256": SHA256, "reason": "3 of 20 requests failed"}

ENTRY = {
    "time": STARTED,
    "actor": "ada",
    "action": "promote",
    "model": "chest",
    "version": "1.1.0",
    "sha256": SHA256,
    "reason": "requested by the ward",
    "detail": "from 1.0.0",
    "previous": "cd" * 32,
}


def routes(answers: dict[str, Any]) -> Script:
    """Answer `METHOD /path` with its document; of a list, the next one, and finally the last one forever."""

    def script(request: Request) -> Reply:
        key = f"{request.method} {request.path.partition('?')[0]}"
        if key not in answers:
            return problem(404, "Not item", f"Nothing is at {key}.")
        item = answers[key]
        if isinstance(item, list):
            item = item.pop(0) if len(item) > 1 else item[0]
        return item if isinstance(item, Reply) else document(item)

    return script


class Deployed:
    """Server that applies the deployment it receives."""

    def __init__(self, text: str) -> None:
        self.have = parse(text, "have")

    def __call__(self, request: Request) -> Reply:
        path = request.path.partition("?")[0]
        if (request.method, path) == ("GET", "/deployment"):
            return document(self.have.model_dump(mode="json"))
        want = validate(json.loads(request.body), "body")
        todo = [item.model_dump() for item in changes(self.have, want)]
        if request.method == "PUT":
            self.have = self._completed(want)
        return document({"changes": todo})

    def _completed(self, want: Deployment) -> Deployment:
        body = want.model_dump()
        for model in body["models"].values():
            for settings in model["versions"].values():
                settings["workers"] = settings["workers"] or 1
        return validate(body, "state")

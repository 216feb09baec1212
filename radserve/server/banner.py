"""What the one who started a server sees when it is ready."""

from __future__ import annotations

from collections.abc import Sequence

from radserve.proxy import options
from radserve.torchserve.launch import Address
from radserve.torchserve.verified_models import VerifiedModel


def announcement(
    served: Sequence[VerifiedModel], address: Address, health_port: int, published: options.Options | None
) -> str:
    """Say where the server is, what it serves, and a line to try.

    Parameters
    ----------
    address, health_port
        Of TorchServe and the supervisor, on loopback.
    published
        The front, where there is one.
    """
    url = published.url if published else address.url
    first = served[0]
    film = f"archives/{first.entry.name}/{first.recipe.sample}"
    key = '-H "X-API-Key: $RADSERVE_KEY" ' if published else ""
    lines = [f"RadServe is ready at {url}"]
    lines += [f"  {item.entry.name} {item.entry.version}  {item.recipe.title}" for item in served]
    if published:
        lines.append(f"  management port {published.management_port}   metrics port {published.metrics_port}")
    lines += [
        f"  health {address.host}:{health_port}/ready   metrics {address.metrics_url}",
        "Try:",
        f"  curl {key}-T {film} {url}/predictions/{first.entry.name}",
    ]
    return "\n".join(lines)

"""Text that is printed when the server is ready."""

from __future__ import annotations

from collections.abc import Sequence

from radserve.proxy.options import ProxyOptions
from radserve.torchserve.launch import Address
from radserve.torchserve.verified_models import VerifiedModel


def banner(models: Sequence[VerifiedModel], address: Address, health_port: int, proxy: ProxyOptions | None) -> str:
    """Return the server's URL, its models, its ports and a command to try.

    Parameters
    ----------
    address, health_port
        Loopback address of TorchServe and port of the supervisor.
    """
    url = proxy.url if proxy else address.url
    first = models[0]
    sample = f"archives/{first.entry.name}/{first.recipe.sample}"
    key = '-H "X-API-Key: $RADSERVE_KEY" ' if proxy else ""
    lines = [f"RadServe is ready at {url}"]
    lines += [f"  {model.entry.name} {model.entry.version}  {model.recipe.title}" for model in models]
    if proxy:
        lines.append(f"  management port {proxy.management_port}   metrics port {proxy.metrics_port}")
    lines += [
        f"  health {address.host}:{health_port}/ready   metrics {address.metrics_url}",
        "Try:",
        f"  curl {key}-T {sample} {url}/predictions/{first.entry.name}",
    ]
    return "\n".join(lines)

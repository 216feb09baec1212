"""What to do about the reasons that AWS gives."""

from __future__ import annotations

import re
from typing import Final

_HINTS: Final = (
    (
        r"vCPU limit|VcpuLimitExceeded|instance limit",
        (
            "New accounts may start no GPU instance: ask for more under Service Quotas, EC2, 'Running On-Demand G and "
            "VT instances', or take an instance without a GPU (InstanceType=m7i.xlarge)."
        ),
    ),
    (
        r"InsufficientInstanceCapacity|do not have sufficient .* capacity",
        "AWS has none left in this zone at the moment: try again later, or take another InstanceType.",
    ),
    (
        r"not supported in your requested Availability Zone|Unsupported: .*instance type",
        "This type does not exist in one of the two zones: take another InstanceType or region.",
    ),
    (
        r"already exists",
        (
            "It is there from before, perhaps kept when an environment of this name was destroyed: delete it, or take "
            "another name (image repositories are shared with storage.Repositories=existing)."
        ),
    ),
    (
        r"not authorized|AccessDenied|is not allowed",
        "The credentials need this permission; docs/aws.md lists what a deployment does.",
    ),
    (
        r"UnsupportedCertificate|CertificateNotFound|Certificate .* not found",
        "The certificate has to be issued, and in ACM of this very region.",
    ),
    (
        r"Circuit Breaker|deployment failed|Exceeded attempts to wait|did not stabilize",
        (
            "Tasks did not become ready: see the log group /radserve/ENVIRONMENT/server. Is the image pushed, and "
            "does the secret hold keys?"
        ),
    ),
    (
        r"Failed to receive .* resource signal|FAILURE signal",
        (
            "The host did not become ready: see the log group /radserve/ENVIRONMENT/server. Is the image pushed, "
            "and do the secrets hold keys and certificate?"
        ),
    ),
    (
        r"UnreservedConcurrentExecution",
        "The account's quota leaves nothing to reserve: set front.Concurrency to 0, or ask for more (Service Quotas).",
    ),
    (
        r"termination ?protection",
        "Set termination_protection to false, and apply first.",
    ),
    (
        r"deletion protection|OperationNotPermitted",
        "Set service.DeletionProtection to false, and apply first.",
    ),
    (
        r"LimitExceeded|maximum number of|quota",
        "A quota of the account is reached: Service Quotas shows it and takes requests for more.",
    ),
)


def with_hint(reason: str) -> str:
    """Return a reason with what to do about it, where that is known."""
    for pattern, hint in _HINTS:
        if re.search(pattern, reason, re.IGNORECASE):
            return f"{reason.rstrip('. ')}. {hint}"
    return reason

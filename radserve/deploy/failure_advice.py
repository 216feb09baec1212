"""Advice for reasons that AWS gives for a failure."""

import re
from typing import Final

_HINTS: Final = {
    r"vCPU limit|VcpuLimitExceeded|instance limit": (
        "New accounts cannot start GPU instances: request a quota under Service Quotas, EC2, 'Running On-Demand G and "
        "VT instances', or use an instance without a GPU (InstanceType=m7i.xlarge)."
    ),
    r"InsufficientInstanceCapacity|do not have sufficient .* capacity": (
        "AWS has no capacity in this zone at present: try again later, or use another InstanceType."
    ),
    r"not supported in your requested Availability Zone|Unsupported: .*instance type": (
        "One of the two zones does not offer this type: use another InstanceType or region."
    ),
    r"already exists": (
        "A resource of this name exists, perhaps kept when an environment of this name was destroyed: delete it, or "
        "use another name (to share image repositories, set storage.Repositories=existing)."
    ),
    r"not authorized|AccessDenied|is not allowed": (
        "The credentials need this permission; docs/aws.md lists what a deployment creates."
    ),
    r"UnsupportedCertificate|CertificateNotFound|Certificate .* not found": (
        "The certificate must be issued, and must be in ACM of the same region."
    ),
    r"Circuit Breaker|deployment failed|Exceeded attempts to wait|did not stabilize": (
        "Tasks did not become ready: see the log group /radserve/ENVIRONMENT/server. Check that the image is pushed "
        "and the secret holds keys."
    ),
    r"Failed to receive .* resource signal|FAILURE signal": (
        "The host did not become ready: see the log group /radserve/ENVIRONMENT/server. Check that the image is "
        "pushed and the secrets hold keys and certificate."
    ),
    r"UnreservedConcurrentExecution": (
        "The account's quota has nothing left to reserve: set front.Concurrency to 0, or request more (Service Quotas)."
    ),
    r"termination ?protection": "Set termination_protection to false and apply first.",
    r"deletion protection|OperationNotPermitted": "Set service.DeletionProtection to false and apply first.",
    r"LimitExceeded|maximum number of|quota": (
        "A quota of the account is exhausted: see Service Quotas, where you can request more."
    ),
}


def with_advice(reason: str) -> str:
    """Append advice to a reason; unknown reasons are returned unchanged."""
    for pattern, hint in _HINTS.items():
        if re.search(pattern, reason, re.IGNORECASE):
            return f"{reason.rstrip('. ')}. {hint}"
    return reason

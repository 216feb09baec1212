"""Prerequisites of a server's stack: checked, and pinned to exact versions, before anything is created."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, TypeVar

from botocore.exceptions import ClientError

from radserve.deploy.aws_clients import Cloud, error_code
from radserve.deploy.template import Template

PINNED: Final = frozenset({"AmiId", "ImageDigest"})
"""Parameters that `find` determines."""
LATEST: Final = "latest"
"""Value of AmiId that replaces a pinned AMI by the newest one."""

_AMIS: Final = {
    ("service", "gpu"): "/aws/service/ecs/optimized-ami/amazon-linux-2023/gpu/recommended/image_id",
    ("service", "cpu"): "/aws/service/ecs/optimized-ami/amazon-linux-2023/recommended/image_id",
    ("host", "gpu"): "/aws/service/deeplearning/ami/x86_64/base-oss-nvidia-driver-gpu-amazon-linux-2023/latest/ami-id",
    ("host", "cpu"): "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64",
}
"""Public SSM parameters with the ID of the AMI that AWS recommends."""
_QUOTAS: Final = {
    "gpu": ("L-DB2E81BA", "Running On-Demand G and VT instances", ("g", "gr", "vt")),
    "cpu": (
        "L-1216C47A",
        "Running On-Demand Standard (A, C, D, H, I, M, R, T, Z) instances",
        ("a", "c", "d", "h", "i", "im", "is", "m", "r", "t", "z"),
    ),
}
"""Quota of EC2 in vCPUs, its name, and the families of instances that it counts."""
_REPOSITORY: Final = re.compile(r"(\d{12})\.dkr\.ecr\.([a-z0-9-]+)\.amazonaws\.com(?:\.cn)?/(.+)")
_HOST_INSTANCES: Final = 2
"""Instances of a host during a deployment: the old one and the new one."""
_FIRST: Final = "Create it first: radserve deploy apply FILE --stack storage --stack secrets"


_T = TypeVar("_T")


@dataclass
class Prerequisites:
    """Result of `find`.

    Attributes
    ----------
    pinned
        Values of parameters in `PINNED`, as far as they are known.
    missing
        What is missing and how to provide it, one line each; empty if the stack can be created.
    notes
        What else is worth knowing.
    """

    pinned: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def find(cloud: Cloud, template: Template, values: Mapping[str, str], current: Mapping[str, str]) -> Prerequisites:
    """Look up what a stack with a server needs: image, certificate, keys, web ACL, AMI and quota.

    Parameters
    ----------
    values
        Values of the template's parameters, as far as they are known.
    current
        Outputs of the existing stack; empty before its creation.
    """
    prerequisites = Prerequisites()
    if template.stack not in ("service", "host"):
        return prerequisites
    values = {name: item.default for name, item in template.parameters.items() if item.default} | dict(values)
    search = _Search(cloud, template, values, current, prerequisites)
    for check in (search.image, search.certificate, search.keys, search.web_acl, search.ami, search.quota):
        prerequisites.missing += [f"{template.stack}.{line}" for line in check()]
    return prerequisites


@dataclass(frozen=True)
class _Search:
    """Checks of one stack; each yields what is missing."""

    cloud: Cloud
    template: Template
    values: Mapping[str, str]
    current: Mapping[str, str]
    prerequisites: Prerequisites

    @property
    def _type(self) -> Mapping[str, str]:
        """Entry of the instance type in the template's mapping."""
        entry: Mapping[str, str] = self.template.document["Mappings"]["InstanceTypes"][self.values["InstanceType"]]
        return entry

    @property
    def _processor(self) -> Literal["cpu", "gpu"]:
        return "cpu" if self._type["Gpus"] == "0" else "gpu"

    def image(self) -> Iterator[str]:
        """Find the digest of the image, so that the stack runs exactly this image."""
        name = "ServerRepository" if self._processor == "gpu" else "ServerCpuRepository"
        tag = self.values["ImageTag"]
        repository = self.values.get(name)
        if repository is None:
            yield f"ImageTag: the repository of image {tag} does not exist. {_FIRST}. Then push the image."
            return
        match = _REPOSITORY.fullmatch(repository)
        if not match or match[2] != self.cloud.region:
            yield f"{name}: {repository} is not in ECR of {self.cloud.region}, from which instances pull."
            return
        image = {"imageTag": tag}
        if digest := self.values.get("ImageDigest"):
            image["imageDigest"] = digest
        response = _lookup(
            lambda: self.cloud.ecr.describe_images(
                registryId=match[1],
                repositoryName=match[3],
                imageIds=[image],  # type: ignore[list-item]  # a TypedDict with both keys optional
            ),
            "ImageNotFoundException",
            "RepositoryNotFoundException",
        )
        if response is None:
            target = match[3].rpartition("/")[2]
            yield (
                f"ImageTag: {repository} has no image {tag}{f' with digest {digest}' if digest else ''}. Push it: "
                f"scripts/push-images {repository.partition('/')[0]} {target}"
            )
            return
        self.prerequisites.pinned["ImageDigest"] = response["imageDetails"][0]["imageDigest"]

    def certificate(self) -> Iterator[str]:
        """Check that the certificate is in this region and can be used."""
        name = "CertificateArn" if self.template.stack == "service" else "CertificateSecretArn"
        arn = self.values[name]
        region = arn.split(":")[3]
        if region != self.cloud.region:
            yield f"{name}: the certificate is in {region}. Use one in {self.cloud.region}, like the environment."
            return
        if name == "CertificateSecretArn":
            if not self._has_value(arn):
                yield f"{name}: the secret is missing or empty. Store the certificate in it (docs/aws.md, step 5)."
            return
        response = _lookup(
            lambda: self.cloud.client("acm").describe_certificate(CertificateArn=arn), "ResourceNotFoundException"
        )
        if response is None:
            yield f"{name}: ACM has no certificate {arn} in this account. Request or import one (docs/aws.md, step 5)."
            return
        status = response["Certificate"]["Status"]
        if status == "PENDING_VALIDATION":
            yield (
                f"{name}: the certificate is not issued yet. Create its DNS record: aws acm describe-certificate "
                f"--certificate-arn {arn} --query Certificate.DomainValidationOptions"
            )
        elif status != "ISSUED":
            yield f"{name}: the certificate is {status}. Request or import another one (docs/aws.md, step 5)."

    def keys(self) -> Iterator[str]:
        """Check that the secret has API keys, without which no server starts."""
        arn = self.values.get("ApiKeysArn")
        if arn is None:
            yield f"ApiKeysArn: the secret of the API keys does not exist. {_FIRST}. Then store keys in it."
        elif not self._has_value(arn):
            yield (
                f"ApiKeysArn: the secret has no API keys. Store some: aws secretsmanager put-secret-value --secret-id "
                f"{self.values.get('ApiKeysName', arn)} --secret-string file://api_keys.json"
            )

    def web_acl(self) -> Iterator[str]:
        """Check that the web ACL exists in this region."""
        arn = self.values.get("WebAclArn", "")
        if not arn:
            return
        _, name, identifier = arn.rpartition("regional/")[2].split("/")
        in_region = arn.split(":")[3] == self.cloud.region
        if not in_region or not _lookup(
            lambda: self.cloud.client("wafv2").get_web_acl(Name=name, Scope="REGIONAL", Id=identifier),
            "WAFNonexistentItemException",
        ):
            yield f"WebAclArn: {self.cloud.region} has no regional web ACL {name}. Create it, or remove WebAclArn."

    def ami(self) -> Iterator[str]:
        """Pin the AMI: the configured one, else that of the existing stack, else the recommended one."""
        configured = self.values.get("AmiId", LATEST)
        pinned = self.current.get("AmiId")
        kept = self.current.get("Processor") == self._processor and configured == pinned
        if configured not in (LATEST, pinned):
            self.prerequisites.pinned["AmiId"] = configured
            return
        name = _AMIS[self.template.stack, self._processor]
        response = _lookup(lambda: self.cloud.client("ssm").get_parameter(Name=name), "ParameterNotFound")
        if response is None:
            if kept:
                self.prerequisites.pinned["AmiId"] = configured
            else:
                yield f"AmiId: AWS recommends no AMI in {self.cloud.region} ({name}). Set the ID of one."
            return
        newest = response["Parameter"]["Value"]
        self.prerequisites.pinned["AmiId"] = configured if kept else newest
        if kept and newest != configured:
            self.prerequisites.notes.append(
                f"{self.template.stack}.AmiId: {configured} is kept; a newer AMI exists: --set "
                f"{self.template.stack}.AmiId={LATEST}"
            )

    def quota(self) -> Iterator[str]:
        """Check that the quota of instances suffices for a deployment, besides the account's other instances."""
        code, name, families = _QUOTAS[self._processor]
        count = int(self.values["MaxInstances"]) if self.template.stack == "service" else _HOST_INSTANCES
        needed = int(self._type["Vcpus"]) * count
        quotas = self.cloud.client("service-quotas")
        response = _lookup(
            lambda: quotas.get_service_quota(ServiceCode="ec2", QuotaCode=code), "NoSuchResourceException"
        ) or _lookup(
            lambda: quotas.get_aws_default_service_quota(ServiceCode="ec2", QuotaCode=code), "NoSuchResourceException"
        )
        if response is None:
            self.prerequisites.notes.append(
                f"{self.template.stack}: the quota '{name}' ({code}) is unknown and was not checked."
            )
            return
        limit, used = int(response["Quota"]["Value"]), self._used(families)
        if needed > limit - used:
            lower = ", lower MaxInstances," if self.template.stack == "service" else ""
            yield (
                f"InstanceType: {count} instances {self.values['InstanceType']} need {needed} vCPUs, but the quota "
                f"'{name}' is {limit}{f' and other instances use {used}' if used else ''}. Request {needed + used} "
                f"under Service Quotas, EC2 ({code}){lower} or use another InstanceType."
            )

    def _used(self, families: tuple[str, ...]) -> int:
        """Count the vCPUs of running instances that belong to other environments."""
        environment = self.values["Environment"]
        total = 0
        pages = (
            self.cloud.client("ec2")
            .get_paginator("describe_instances")
            .paginate(Filters=[{"Name": "instance-state-name", "Values": ["pending", "running"]}])
        )
        for page in pages:
            for item in (item for entry in page["Reservations"] for item in entry["Instances"]):
                tags = {tag["Key"]: tag["Value"] for tag in item.get("Tags", [])}
                family = re.match(r"[a-z]*", item["InstanceType"])
                if tags.get("radserve:environment") != environment and family and family[0] in families:
                    options = item.get("CpuOptions", {})
                    total += options.get("CoreCount", 0) * options.get("ThreadsPerCore", 1)
        return total

    def _has_value(self, secret: str) -> bool:
        """Return whether a secret has a value, without reading it."""
        response = _lookup(lambda: self.cloud.secrets.describe_secret(SecretId=secret), "ResourceNotFoundException")
        details = dict(response or {})
        return "DeletedDate" not in details and bool(details.get("VersionIdsToStages"))


def _lookup(request: Callable[[], _T], *missing: str) -> _T | None:
    """Send a request; None if the error's code says that the resource does not exist."""
    try:
        return request()
    except ClientError as error:
        if error_code(error) in missing:
            return None
        raise

"""User data of the templates' instances, rendered with sample values: `python -m tests.deploy.user_data FOLDER`."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from radserve.deploy.template import Template, load

VALUES = {
    "AWS::Region": "eu-central-1",
    "AWS::StackName": "radserve-demo-host",
    "Environment": "demo",
    "Cluster": "radserve-demo",
    "ApiKeysName": "radserve/demo/api-keys",
    "CandidatePrefix": "candidates",
    "CertificateSecretArn": "arn:aws:secretsmanager:eu-central-1:123456789012:secret:certificate-AbCdEf",
    "DrainDelay": "0",
    "DrainTimeout": "60",
    "CollectorImage": "public.ecr.aws/aws-observability/aws-otel-collector:v0.43.3",
    "ImageDigest": f"sha256:{'0' * 64}",
    "ImageTag": "0.1.0",
    "Log": "/radserve/demo/server",
    "MetricLog": "/radserve/demo/metrics",
    "ModelBucket": "models",
    "ModelPrefix": "releases/1",
    "Models": "chest_xray",
    "RemoteWriteUrl": "https://aps-workspaces.eu-central-1.amazonaws.com/workspaces/ws-0/api/v1/remote_write",
    "ServerRepository": "123456789012.dkr.ecr.eu-central-1.amazonaws.com/radserve/server",
    "ServerCpuRepository": "123456789012.dkr.ecr.eu-central-1.amazonaws.com/radserve/server-cpu",
}
PLACES = {"host": "Template", "service": "Instance"}


def scripts() -> Iterator[tuple[str, str]]:
    """Yield name and text of each template's script, with and without a GPU, and of scripts that it writes."""
    for stack, logical in PLACES.items():
        for gpu in (True, False):
            text = rendered(load(stack), logical, gpu=gpu)  # type: ignore[arg-type]  # names of stacks
            name = f"{stack}-{'gpu' if gpu else 'cpu'}"
            yield name, text
            for path, inner in written(text).items():
                if inner.startswith("#!/bin/bash"):
                    yield f"{name}-{Path(path).name}", inner


def rendered(template: Template, logical: str, *, gpu: bool) -> str:
    """Return the user data of a launch template with sample values, for models from the bucket."""
    data = template.document["Resources"][logical]["Properties"]["LaunchTemplateData"]["UserData"]
    return _value(data["Fn::Base64"], {"WithGpu": gpu, "FromBucket": True})


def written(script: str) -> dict[str, str]:
    """Return the files that a script writes with here-documents, by path."""
    files = re.findall(r"^cat > (\S+) <<'EOF'\n(.*?)^EOF$", script, re.MULTILINE | re.DOTALL)
    return dict(files)


def _value(item: Any, conditions: dict[str, bool]) -> str:
    if isinstance(item, str):
        return item
    if "Fn::If" in item:
        condition, met, otherwise = item["Fn::If"]
        return _value(met if conditions[condition] else otherwise, conditions)
    text, own = item["Fn::Sub"] if isinstance(item["Fn::Sub"], list) else (item["Fn::Sub"], {})
    known = VALUES | {key: _value(value, conditions) for key, value in own.items()}
    replaced = re.sub(r"\$\{([^!}][^}]*)\}", lambda match: known[match[1]], text)
    return replaced.replace("${!", "${")


if __name__ == "__main__":
    for _name, _text in scripts():
        (Path(sys.argv[1]) / f"{_name}.sh").write_text(_text, encoding="utf-8")

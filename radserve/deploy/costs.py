"""What of a template costs money, and how it is counted. Prices change and differ by region: AWS' own page has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

PRICES: Final = "https://aws.amazon.com/pricing/"

_COSTS: Final = {
    "AWS::ApiGateway::RestApi": "REST API: by the request, and by GB that leave",
    "AWS::ApiGatewayV2::Api": "HTTP API: by the request, and by GB that leave",
    "AWS::AutoScaling::AutoScalingGroup": (
        "instances of the group: by the second for each that runs, by its type (those with a GPU cost most); "
        "their gp3 disks by GB and month; detailed monitoring by metric"
    ),
    "AWS::Budgets::Budget": "budget: the first two of an account without actions are free",
    "AWS::CloudWatch::Alarm": "alarm: by the month and metric it looks at",
    "AWS::CloudWatch::Dashboard": "dashboard: by the month, beyond the free ones",
    "AWS::EC2::EIP": "public IPv4 address: by the hour, in use or not",
    "AWS::EC2::FlowLog": "flow log: by GB taken in",
    "AWS::EC2::Instance": "instance: by the second while it runs, by its type; its gp3 disk by GB and month",
    "AWS::EC2::NatGateway": "NAT gateway: by the hour, and by GB through it",
    "AWS::EC2::VPCEndpoint": "interface endpoint: by the hour and zone, and by GB",
    "AWS::ECR::Repository": "images: by GB and month, and by GB that leave the region",
    "AWS::ECS::Cluster": "Container Insights: by metric and by GB of log (the cluster itself is free)",
    "AWS::ElasticLoadBalancingV2::LoadBalancer": (
        "load balancer: by the hour, and by capacity unit (connections, bytes); its public IPv4 addresses by the hour"
    ),
    "AWS::KMS::Key": "key: by the month, and by 10,000 uses",
    "AWS::Lambda::Function": "function: by the request, and by GB of its memory and second that it runs",
    "AWS::Logs::LogGroup": "log: by GB taken in, and by GB and month kept",
    "AWS::S3::Bucket": "bucket: by GB and month, old versions among it, and by request",
    "AWS::SNS::Topic": "messages: by the message, beyond the free ones",
    "AWS::SecretsManager::Secret": "secret: by the month, and by 10,000 reads",
}


def of(resource: Mapping[str, Any]) -> str | None:
    """Return how a resource of a template is counted; None if it is free."""
    if resource.get("Properties", {}).get("VpcEndpointType") == "Gateway":
        return None
    return _COSTS.get(resource["Type"])

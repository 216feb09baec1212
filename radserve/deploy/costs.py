"""Resource types that cost money and the unit of their price. For prices, which differ by region, see AWS' own page."""

from collections.abc import Mapping
from typing import Any, Final

PRICES: Final = "https://aws.amazon.com/pricing/"

_UNITS: Final = {
    "AWS::ApiGateway::RestApi": "REST API: per request and GB sent",
    "AWS::ApiGatewayV2::Api": "HTTP API: per request and GB sent",
    "AWS::AutoScaling::AutoScalingGroup": (
        "group of instances: per running instance and second, by type (those with a GPU cost most); "
        "their gp3 disks per GB and month; detailed monitoring per metric"
    ),
    "AWS::Budgets::Budget": "budget: the first two of an account without actions are free",
    "AWS::CloudWatch::Alarm": "alarm: per month and metric",
    "AWS::CloudWatch::Dashboard": "dashboard: per month, beyond the free ones",
    "AWS::EC2::EIP": "public IPv4 address: per hour, in use or not",
    "AWS::EC2::FlowLog": "flow log: per GB ingested",
    "AWS::EC2::Instance": "instance: per second while it runs, by type; its gp3 disk per GB and month",
    "AWS::EC2::NatGateway": "NAT gateway: per hour and GB",
    "AWS::EC2::VPCEndpoint": "interface endpoint: per hour and zone, and per GB",
    "AWS::ECR::Repository": "images: per GB and month, and per GB sent to other regions",
    "AWS::ECS::Cluster": "Container Insights: per metric and GB of log (the cluster itself is free)",
    "AWS::ElasticLoadBalancingV2::LoadBalancer": (
        "load balancer: per hour and capacity unit (connections, bytes); its public IPv4 addresses per hour"
    ),
    "AWS::KMS::Key": "key: per month, and per 10,000 uses",
    "AWS::Lambda::Function": "function: per request, and per GB of memory and second",
    "AWS::Logs::LogGroup": "log: per GB ingested, and per GB and month stored",
    "AWS::S3::Bucket": "bucket: per GB and month, including old versions, and per request",
    "AWS::SNS::Topic": "messages: per message, beyond the free ones",
    "AWS::SecretsManager::Secret": "secret: per month, and per 10,000 reads",
}


def unit(resource: Mapping[str, Any]) -> str | None:
    """Return what a resource of a template costs money for; None if it is free."""
    if resource.get("Properties", {}).get("VpcEndpointType") == "Gateway":
        return None
    return _UNITS.get(resource["Type"])

"""moto's server with additions for CloudFormation: `python -m tests.radserve.deploy.moto_server PORT`.

moto 5.2 executes change sets incompletely and lacks some resource types. This module adds:

- A change set lists resources with changed parameters. After its execution, the stack has outputs, exports, parameters
  and events of its resources. It still lists resources whose condition is not met.
- A deleted stack does not recreate its resources.
- Fn::Cidr, and AWS::NoValue in lists.
- UpdateTerminationProtection.
- DeletionPolicy RetainExceptOnCreate, treated like Retain.
- Full names of load balancers and target groups.
- Instances of launch templates, and deletion of route tables.
- Public parameters of AMIs that moto does not list.
- Quotas of EC2 in vCPUs.
- Training jobs named `lost` or `lost-1` fail.
- Types of `MISSING` with a physical ID and attributes, so that references to them resolve. No other API of moto knows
  them.
"""

import ipaddress
import json
import sys
from functools import partial
from types import SimpleNamespace
from typing import Any, Self

from moto.cloudformation import models, parsing, responses
from moto.core.common_models import CloudFormationModel
from moto.core.responses import ActionResult
from moto.ec2.models import ec2_backends
from moto.ec2.models.instances import Instance
from moto.ec2.models.route_tables import RouteTable
from moto.elbv2 import models as elbv2
from moto.sagemaker.models import FakeTrainingJob
from moto.secretsmanager.models import secretsmanager_backends
from moto.server import main
from moto.servicequotas.models import ServiceQuotasBackend
from moto.ssm.models import SimpleSystemManagerBackend

from tests.radserve.deploy.quotas import QUOTAS

MISSING = (
    "AWS::APS::RuleGroupsNamespace",
    "AWS::APS::Workspace",
    "AWS::ApiGateway::Stage",
    "AWS::ApiGatewayV2::Api",
    "AWS::ApiGatewayV2::Integration",
    "AWS::ApiGatewayV2::Route",
    "AWS::ApiGatewayV2::Stage",
    "AWS::ApplicationAutoScaling::ScalableTarget",
    "AWS::ApplicationAutoScaling::ScalingPolicy",
    "AWS::Budgets::Budget",
    "AWS::CloudWatch::Alarm",
    "AWS::EC2::EIPAssociation",
    "AWS::EC2::SecurityGroupEgress",
    "AWS::ECS::CapacityProvider",
    "AWS::ECS::ClusterCapacityProviderAssociations",
    "AWS::Lambda::Url",
    "AWS::Logs::MetricFilter",
    "AWS::S3::BucketPolicy",
    "AWS::SNS::Subscription",
    "AWS::SNS::TopicPolicy",
    "AWS::SecretsManager::Secret",
    "AWS::WAFv2::WebACLAssociation",
)
"""Types of the templates that moto's CloudFormation lacks."""

AMIS = ("/aws/service/deeplearning/ami/x86_64/base-oss-nvidia-driver-gpu-amazon-linux-2023/latest/ami-id",)


class _Recorded(CloudFormationModel):
    """A resource that exists only in its stack."""

    __module__ = "moto.cloudformation.recorded"  # moto groups models by the name of their module
    TYPE = "AWS::SERVICE::RESOURCE"

    def __init__(self, name: str) -> None:
        self.physical_resource_id = name

    @staticmethod
    def cloudformation_name_type() -> str:
        return ""

    @classmethod
    def cloudformation_type(cls) -> str:
        return cls.TYPE

    @classmethod
    def has_cfn_attr(cls, attr: str) -> bool:
        return True

    def get_cfn_attribute(self, attribute_name: str) -> str:
        return f"{self.physical_resource_id}-{attribute_name}"

    @classmethod
    def create_from_cloudformation_json(cls, resource_name: str, *_: Any, **__: Any) -> Self:
        return cls(resource_name)

    @classmethod
    def update_from_cloudformation_json(cls, original_resource: Self, *_: Any, **__: Any) -> Self:
        return original_resource

    @classmethod
    def delete_from_cloudformation_json(cls, *_: Any, **__: Any) -> None:
        pass


class _Secret(_Recorded):
    """A secret without a value, which Secrets Manager knows as well."""

    __module__ = _Recorded.__module__

    @classmethod
    def create_from_cloudformation_json(
        cls, resource_name: str, cloudformation_json: dict[str, Any], account_id: str, region_name: str, **_: Any
    ) -> Self:
        backend = secretsmanager_backends[account_id][region_name]
        created = backend.create_secret(
            name=cloudformation_json["Properties"]["Name"],
            secret_string=None,
            secret_binary=None,
            description=None,
            tags=None,
            kms_key_id=None,
            client_request_token=None,
            replica_regions=[],
            force_overwrite=False,
        )
        return cls(json.loads(created)["ARN"])


class _Workspace(_Recorded):
    """A workspace, whose attributes satisfy parameters' patterns."""

    __module__ = _Recorded.__module__

    def get_cfn_attribute(self, attribute_name: str) -> str:
        return {
            "Arn": "arn:aws:aps:eu-central-1:123456789012:workspace/ws-0",
            "PrometheusEndpoint": "https://aps-workspaces.eu-central-1.amazonaws.com/workspaces/ws-0/",
        }[attribute_name]


class _Url(_Recorded):
    """A function URL, whose host other resources use."""

    __module__ = _Recorded.__module__

    def get_cfn_attribute(self, attribute_name: str) -> str:
        assert attribute_name == "FunctionUrl"
        return "https://0123456789abcdef.lambda-url.eu-central-1.on.aws/"


_BASES = {
    "AWS::APS::Workspace": _Workspace,
    "AWS::Lambda::Url": _Url,
    "AWS::SecretsManager::Secret": _Secret,
}


def add_types() -> None:
    """Add the types of `MISSING` to moto's CloudFormation."""
    known = parsing.get_model_map()
    for type_ in MISSING:
        assert type_ not in known, f"moto has {type_} now: remove it from MISSING"
        base = _BASES.get(type_, _Recorded)
        known[type_] = type(type_.replace(":", ""), (base,), {"TYPE": type_, "__module__": base.__module__})


def fill_functions() -> None:
    """Add Fn::Cidr, and drop AWS::NoValue from lists."""
    plain = parsing.clean_json

    def clean(resource_json: Any, resources_map: parsing.ResourceMap) -> Any:
        document, resources = resource_json, resources_map
        if isinstance(document, dict) and "Fn::Cidr" in document:
            block, count, bits = plain(document["Fn::Cidr"], resources)
            subnets = ipaddress.ip_network(block).subnets(new_prefix=32 - int(bits))
            return [str(next(subnets)) for _ in range(int(count))]
        if isinstance(document, list):
            return [value for item in document if (value := clean(item, resources)) is not None]
        return plain(document, resources)

    parsing.clean_json = clean


def finish_change_sets() -> None:
    """Detect changes by parameters, and update the stack when a change set is executed."""
    plain = models.ChangeSet.apply

    def apply(self: models.ChangeSet) -> None:
        plain(self)
        self.stack.parameters = self.parameters
        self.stack.template = self.template
        self.stack.template_dict = self.template_dict
        self.stack.output_map = self.stack._create_output_map()
        backend = models.cloudformation_backends[self.stack.account_id][self.stack.region_name]
        backend.exports.update({export.name: export for export in self.stack.exports})
        for change in self.changes:
            self.stack.events.append(
                models.Event(
                    stack_id=self.stack.stack_id,
                    stack_name=self.stack.name,
                    logical_resource_id=change.logical_resource_id,
                    physical_resource_id="",
                    resource_type=change.resource_type,
                    resource_status="CREATE_COMPLETE" if change.action == "Add" else "UPDATE_COMPLETE",
                    resource_status_reason=None,
                    resource_properties=None,
                )
            )

    plain_diff = models.ChangeSet.diff

    def diff(self: models.ChangeSet) -> list[models.Change]:
        resources = self.stack.resource_map
        resources.build_resource_diff = partial(  # type: ignore[method-assign]
            parsing.ResourceMap.build_resource_diff, resources, parameters=self.parameters
        )
        try:
            return plain_diff(self)
        finally:
            del resources.build_resource_diff

    models.ChangeSet.apply = apply  # type: ignore[method-assign]
    models.ChangeSet.diff = diff  # type: ignore[method-assign]


def stay_deleted() -> None:
    """Keep a deleted stack from recreating its resources when its exports are read."""
    plain = models.Stack.delete

    def delete(self: models.Stack) -> None:
        known = self.exports
        plain(self)
        self.output_map = SimpleNamespace(exports=known, values=list)  # type: ignore[assignment]

    models.Stack.delete = delete  # type: ignore[method-assign]


def add_protection() -> None:
    """Add UpdateTerminationProtection."""

    def update(self: Any) -> ActionResult:
        stack = self.cloudformation_backend.get_stack(self._get_param("StackName"))
        stack.enable_termination_protection = self._get_bool_param("EnableTerminationProtection")
        return ActionResult({"StackId": stack.stack_id})

    responses.CloudFormationResponse.update_termination_protection = update  # type: ignore[attr-defined]


def keep_what_is_retained() -> None:
    """Treat RetainExceptOnCreate like Retain."""
    plain = parsing.ResourceMap.delete

    def delete(self: parsing.ResourceMap) -> None:
        for resource in self._resource_json_map.values():
            if resource.get("DeletionPolicy") == "RetainExceptOnCreate":
                resource["DeletionPolicy"] = "Retain"
        plain(self)

    parsing.ResourceMap.delete = delete  # type: ignore[method-assign]


def add_attributes() -> None:
    """Add the full names of load balancers and target groups."""
    plain = elbv2.FakeLoadBalancer.get_cfn_attribute

    def full_name(self: elbv2.FakeLoadBalancer, attribute_name: str) -> Any:
        if attribute_name == "LoadBalancerFullName":
            return self.arn.partition(":loadbalancer/")[2]
        return plain(self, attribute_name)

    elbv2.FakeLoadBalancer.get_cfn_attribute = full_name  # type: ignore[method-assign]

    def attribute(self: elbv2.FakeTargetGroup, attribute_name: str) -> str:
        assert attribute_name == "TargetGroupFullName"
        return self.arn.rpartition(":")[2]

    elbv2.FakeTargetGroup.get_cfn_attribute = attribute  # type: ignore[attr-defined]


def delete_route_tables() -> None:
    """Delete route tables with their stack; otherwise, moto does not delete their VPC."""

    def delete(_cls: type, resource_name: str, _document: Any, account_id: str, region_name: str) -> None:
        backend = ec2_backends[account_id][region_name]
        backend.route_tables[resource_name].associations.clear()
        backend.delete_route_table(resource_name)

    RouteTable.delete_from_cloudformation_json = classmethod(delete)  # type: ignore[assignment]


def start_from_templates() -> None:
    """Apply the launch template to instances."""
    plain = Instance.create_from_cloudformation_json

    def create(
        _cls: Any, resource_name: str, document: dict[str, Any], account_id: str, region_name: str, **more: Any
    ) -> Instance:
        properties = document["Properties"]
        template = ec2_backends[account_id][region_name].launch_templates[
            properties["LaunchTemplate"]["LaunchTemplateId"]
        ]
        data = template.get_version(int(properties["LaunchTemplate"]["Version"])).data
        results = {"ImageId": data["ImageId"], "InstanceType": data["InstanceType"], "UserData": data["UserData"]}
        return plain(
            resource_name, {**document, "Properties": {**properties, **results}}, account_id, region_name, **more
        )

    Instance.create_from_cloudformation_json = classmethod(create)  # type: ignore[method-assign,assignment,arg-type]


def add_images() -> None:
    """Add the AMIs that moto does not list."""
    plain = SimpleSystemManagerBackend.get_parameter

    def get(self: SimpleSystemManagerBackend, name: str) -> Any:
        if name in AMIS:
            return SimpleNamespace(response_object=lambda *_: {"Name": name, "Value": "ami-0123456789abcdef0"})
        return plain(self, name)

    SimpleSystemManagerBackend.get_parameter = get  # type: ignore[method-assign]


def add_quotas() -> None:
    """Add the quotas of EC2."""

    def get(self: ServiceQuotasBackend, service_code: str, quota_code: str) -> dict[str, Any]:
        assert service_code == "ec2"
        return {"ServiceCode": service_code, "QuotaCode": quota_code, "Value": QUOTAS[quota_code]}

    ServiceQuotasBackend.get_service_quota = get  # type: ignore[method-assign]


def fail_training_jobs() -> None:
    """Let training jobs fail, which moto completes at once."""
    plain = FakeTrainingJob.__init__

    def init(self: Any, *arguments: Any, **keywords: Any) -> None:
        plain(self, *arguments, **keywords)
        if self.training_job_name in ("lost", "lost-1"):
            self.training_job_status = self.secondary_status = "Failed"
            self.failure_reason = "InternalServerError"

    FakeTrainingJob.__init__ = init  # type: ignore[method-assign]


if __name__ == "__main__":
    add_types()
    fill_functions()
    finish_change_sets()
    stay_deleted()
    add_protection()
    keep_what_is_retained()
    add_attributes()
    delete_route_tables()
    start_from_templates()
    add_images()
    add_quotas()
    fail_training_jobs()
    main(["-H", "127.0.0.1", "-p", sys.argv[1]])

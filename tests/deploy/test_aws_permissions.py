"""Policies, public ports and stored data of the CloudFormation templates."""

from radserve.deploy.settings import STACKS
from radserve.deploy.teardown import RETAINED, TEMPORARY
from radserve.deploy.template import load
from tests.deploy.aws_templates import ALLOWED, listed, of

EVERYTHING = {
    # Statement: why its resource must be "*".
    ("storage", "Key", "Account"): "a key's policy applies only to that key",
    ("storage", "Key", "Logs"): "a key's policy applies only to that key; only for log groups of this environment",
    ("storage", "Key", "Alarms"): "a key's policy applies only to that key; only for this account",
    ("service", "InstanceRole", "Discover"): "ecs:DiscoverPollEndpoint has no resource",
    (
        "service",
        "InstanceRole",
        "Metrics",
    ): "cloudwatch:PutMetricData has no resource; a condition limits the namespace",
    ("service", "ExecutionRole", "Login"): "ecr:GetAuthorizationToken has no resource",
    ("host", "Role", "Login"): "ecr:GetAuthorizationToken has no resource",
    ("host", "Role", "Metrics"): "cloudwatch:PutMetricData has no resource; a condition limits the namespace",
    (
        "front",
        "Role",
        "Network",
    ): "names of Lambda's interfaces are not known in advance; a denial excludes the function's code",
}
PUBLIC = {("service", "BalancerGroup"): {80, 443}, ("host", "Group"): {443}}
"""Security groups with public ingress, and their ports."""


def test_statements_list_their_actions() -> None:
    assert len(ALLOWED) > 20
    wild = [
        (stack, name, action) for stack, name, item in ALLOWED for action in listed(item["Action"]) if "*" in action
    ]
    assert wild == []
    assert [item for item in ALLOWED if "NotAction" in item[2] or "NotResource" in item[2]] == []


def test_wildcard_resources_are_only_those_with_a_reason() -> None:
    wide = {(stack, name, item["Sid"]) for stack, name, item in ALLOWED if "*" in listed(item.get("Resource", ""))}
    assert wide == set(EVERYTHING)


def test_only_services_and_the_account_are_trusted() -> None:
    for stack, name, item in ALLOWED:
        trusted = item.get("Principal", {})
        assert trusted != "*", (stack, name)
        for who in listed(trusted.get("AWS", [])):
            assert who == {"Fn::Sub": "arn:${AWS::Partition}:iam::${AWS::AccountId}:root"}, (stack, name)


def test_services_are_trusted_only_for_this_account() -> None:
    for stack, name, item in ALLOWED:
        services = listed(item.get("Principal", {}).get("Service", []))
        # EC2 and Lambda assume a role only in its own account.
        if services and services not in (["ec2.amazonaws.com"], ["lambda.amazonaws.com"]):
            assert "Condition" in item, (stack, name, services)


def test_security_groups_open_only_the_public_ports() -> None:
    opened: dict[tuple[str, str], set[int]] = {}
    for stack in STACKS:
        for name, group in of(load(stack), "AWS::EC2::SecurityGroup"):
            for rule in group.get("SecurityGroupIngress", []):
                assert rule["FromPort"] == rule["ToPort"] != 22
                assert rule["IpProtocol"] == "tcp"
                if rule.get("CidrIp") in ("0.0.0.0/0", {"Ref": "AllowedCidr"}):
                    opened.setdefault((stack, name), set()).add(rule["FromPort"])
        for _, rule in of(load(stack), "AWS::EC2::SecurityGroupIngress"):
            assert rule["FromPort"] == rule["ToPort"] != 22
            assert "SourceSecurityGroupId" in rule
    assert opened == PUBLIC


def test_log_groups_have_retention_and_encryption() -> None:
    groups = [(stack, name, item) for stack in STACKS for name, item in of(load(stack), "AWS::Logs::LogGroup")]
    assert len(groups) == 7
    for stack, name, item in groups:
        assert item["RetentionInDays"], (stack, name)
        assert item["KmsKeyId"] == {"Ref": "KeyArn"}, (stack, name)
        # The key's policy allows CloudWatch only these names.
        assert item["LogGroupName"]["Fn::Sub"].startswith("/radserve/${Environment}/")


def test_buckets_are_private_encrypted_versioned_and_require_tls() -> None:
    template = load("storage")
    denied = {
        item["Bucket"]["Ref"]
        for _, item in of(template, "AWS::S3::BucketPolicy")
        for statement in item["PolicyDocument"]["Statement"]
        if statement["Effect"] == "Deny" and statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    }
    buckets = dict(of(template, "AWS::S3::Bucket"))
    assert denied == set(buckets) == {"Models", "AccessLogs"}
    for item in buckets.values():
        assert item["VersioningConfiguration"] == {"Status": "Enabled"}
        assert item["BucketEncryption"]["ServerSideEncryptionConfiguration"]
        assert set(item["PublicAccessBlockConfiguration"].values()) == {"true"} or all(
            item["PublicAccessBlockConfiguration"].values()
        )
        assert item["LifecycleConfiguration"]["Rules"][0]["NoncurrentVersionExpiration"]


def test_data_outlive_their_stack() -> None:
    kinds = {"AWS::S3::Bucket", "AWS::ECR::Repository", "AWS::KMS::Key", "AWS::SecretsManager::Secret"}
    resources = [(stack, item) for stack in STACKS for item in load(stack).document["Resources"].values()]
    for stack, item in resources:
        if item["Type"] in kinds and stack not in TEMPORARY:
            assert stack in RETAINED
            assert item["DeletionPolicy"] == "RetainExceptOnCreate"
            assert item["UpdateReplacePolicy"] == "Retain"

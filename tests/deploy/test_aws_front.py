"""The Lambda function and API Gateway of the CloudFormation templates."""

import json
import re

import pytest

from gateway.settings import PREFIX
from gateway.settings import Settings as GatewaySettings
from radserve.deploy.errors import SettingsError
from radserve.deploy.template import load
from tests.deploy.aws_templates import ALLOWED, of
from tests.server import ROOT


def test_variables_of_the_front_are_known_and_contain_no_secret() -> None:
    ((_, function),) = of(load("front"), "AWS::Lambda::Function")
    variables = function["Environment"]["Variables"]
    known = {f"{PREFIX}{name.upper()}" for name in GatewaySettings.model_fields}
    assert set(variables) <= known
    for name in ("KEYS", "SERVER_KEY", "HISTORY"):
        value = json.dumps(variables[f"{PREFIX}{name}"])
        assert "secretsmanager:${" in value, name


def test_front_times_out_before_its_callers() -> None:
    template = load("front")
    times = template.document["Mappings"]["Timeouts"]
    assert template.parameters["Timeout"].declaration["AllowedValues"] == list(times)
    for whole, item in times.items():
        assert float(item["Server"]) < int(whole) - 2
    waits = {
        item["TimeoutInMillis"]
        for _, properties in (
            *of(template, "AWS::ApiGatewayV2::Integration"),
            *of(template, "AWS::ApiGateway::Method"),
        )
        for item in [properties.get("Integration", properties)]
    }
    assert waits == {29000}
    assert max(map(int, times)) < 29


def test_front_requires_keys() -> None:
    template = load("front")
    for name in ("ApiKeysName", "ApiKeysArn"):
        assert template.parameters[name].default is None
        with pytest.raises(SettingsError):
            template.parameters[name].check("front", "")


def test_role_of_the_front_is_limited_to_its_resources() -> None:
    statements_by_id = {item["Sid"]: item for stack, _, item in ALLOWED if stack == "front" and "Sid" in item}
    assert statements_by_id["Uploads"]["Resource"]["Fn::Sub"].endswith("/uploads/*")
    for name, ending in (
        ("ServerKey", "secret:${ServerKeySecret}-??????"),
        ("History", "secret:${HistorySecret}-??????"),
    ):
        assert statements_by_id[name]["Action"] == "secretsmanager:GetSecretValue"
        assert statements_by_id[name]["Resource"]["Fn::Sub"].endswith(ending)
    ((_, function),) = of(load("front"), "AWS::Lambda::Function")
    assert function["Environment"]["Variables"][f"{PREFIX}UPLOADS"]["Fn::Sub"] == (
        "s3://" + statements_by_id["Uploads"]["Resource"]["Fn::Sub"].partition(":::")[2].removesuffix("/*")
    )


def test_uploads_are_private_encrypted_and_expire() -> None:
    ((_, bucket),) = of(load("front"), "AWS::S3::Bucket")
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    default = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"][0]["ServerSideEncryptionByDefault"]
    assert default == {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": {"Ref": "KeyArn"}}
    assert bucket["LifecycleConfiguration"]["Rules"][0]["ExpirationInDays"] == 1
    (rule,) = bucket["CorsConfiguration"]["CorsRules"]
    assert rule["AllowedMethods"] == ["POST"]
    assert "*" not in json.dumps(rule["AllowedOrigins"])
    ((_, policy),) = of(load("front"), "AWS::S3::BucketPolicy")
    (denied,) = policy["PolicyDocument"]["Statement"]
    assert (denied["Effect"], denied["Condition"]) == ("Deny", {"Bool": {"aws:SecureTransport": "false"}})


def test_alarms_of_the_front_notify_an_existing_topic() -> None:
    alarms = dict(of(load("front"), "AWS::CloudWatch::Alarm"))
    responses = {"HttpErrors", "RestErrors", "UrlErrors"}
    assert set(alarms) == {"Errors", "Throttles", "Slow", "ResultsLost", "Uncounted"} | responses
    for item in alarms.values():
        assert item["AlarmActions"]["Fn::If"][:2] == ["WithTopic", [{"Ref": "TopicArn"}]]


def test_alarms_of_the_front_match_messages_of_the_gateway() -> None:
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "gateway").rglob("*.py"))
    filters = dict(of(load("front"), "AWS::Logs::MetricFilter"))
    assert set(filters) == {"ResultsLostFilter", "UncountedFilter"}
    for name, item in filters.items():
        text = item["FilterPattern"].strip('"')
        assert re.search(rf'logger\.error\("{re.escape(text)}', sources), f"{name}: no such message"


def test_rest_api_forwards_all_paths_as_bytes() -> None:
    template = load("front")
    ((_, api),) = of(template, "AWS::ApiGateway::RestApi")
    assert api["BinaryMediaTypes"] == ["*/*"]
    assert {item["ResourceId"].get("Ref", "root") for _, item in of(template, "AWS::ApiGateway::Method")} == {
        "root",
        "RestPath",
    }
    deployment = template.document["Resources"]["RestDeployment"]
    assert set(deployment["DependsOn"]) == {name for name, _ in of(template, "AWS::ApiGateway::Method")}

"""The front on Lambda, by the real command against moto's server, which does not run functions."""

from __future__ import annotations

import base64
import hashlib
import io
import zipfile
from pathlib import Path

import pytest

from radserve.deploy import settings, stacks, template
from radserve.deploy.errors import SettingsError
from radserve.deploy.settings import Settings
from tests.radserve.deploy.conftest import ACCOUNT, REGION, Aws

FRONT = f"""
environment: demo
region: {REGION}
home: elsewhere
front: zip
parameters:
  front:
    ServerUrl: https://radserve.example.org
    ServerKeySecret: radserve/demo/front-key
"""
BUCKET = f"radserve-demo-models-{ACCOUNT}-{REGION}"
URL = "https://radserve.example.org"
GIVEN = {
    "KeyArn": f"arn:aws:kms:{REGION}:{ACCOUNT}:key/0",
    "ModelBucket": BUCKET,
    "AccessLogBucket": "access",
    "ApiKeysArn": f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:radserve/demo/api-keys-AbCdEf",
    "ApiKeysName": "radserve/demo/api-keys",
}
UPLOADS = f"radserve-demo-uploads-{ACCOUNT}-{REGION}"


def package(folder: Path, text: str = "handler = None\n") -> Path:
    """Write a package."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as packed:
        packed.writestr(zipfile.ZipInfo("gateway/lambda_/handler.py"), text)
    path = folder / "front.zip"
    path.write_bytes(stream.getvalue())
    return path


@pytest.fixture
def words(aws: Aws) -> list[str]:
    """Name an environment that is a front before a server elsewhere."""
    more = (f"package={package(aws.folder)}", "front.RestApi=yes", "front.FunctionUrl=yes")
    return [str(aws.file(FRONT)), *(word for change in more for word in ("--set", change))]


def packages(aws: Aws) -> list[str]:
    """List the packages that were uploaded."""
    found = aws.client("s3").list_objects_v2(Bucket=BUCKET).get("Contents", [])
    return [item["Key"] for item in found]


def test_a_front_is_created_changed_and_deleted_with_its_uploads(aws: Aws, words: list[str]) -> None:
    said = aws.deploy("apply", *words, "--yes")
    assert "radserve-demo-front: create" in said
    assert "1 x function: by the request" in said
    assert "1 x HTTP API: by the request" in said
    assert "radserve-demo-network" not in said
    path = aws.folder / "front.zip"
    digest = hashlib.sha256(path.read_bytes())
    key = f"packages/{digest.hexdigest()}.zip"
    assert f"uploaded to s3://{BUCKET}/{key}" in said
    assert packages(aws) == [key]
    function = aws.client("lambda").get_function(FunctionName="radserve-demo-front")["Configuration"]
    assert function["CodeSha256"] == base64.b64encode(digest.digest()).decode()
    assert function["Handler"] == "gateway.lambda_.handler.handler"
    variables = function["Environment"]["Variables"]
    assert variables["RADSERVE_GATEWAY_SERVER"] == "https://radserve.example.org"
    assert variables["RADSERVE_GATEWAY_SERVER_KEY"] == "secretsmanager:radserve/demo/front-key"
    assert variables["RADSERVE_GATEWAY_KEYS"] == "secretsmanager:radserve/demo/api-keys"
    assert variables["RADSERVE_GATEWAY_UPLOADS"] == f"s3://{UPLOADS}/uploads"
    assert "RADSERVE_GATEWAY_OIDC_ISSUER" not in variables

    assert "Nothing to change." in aws.deploy("apply", *words, "--yes")
    package(aws.folder, "handler = print\n")
    said = aws.deploy("apply", *words, "--yes")
    assert "radserve-demo-front is UPDATE_COMPLETE." in said
    assert len(packages(aws)) == 2
    (stack,) = aws.client("cloudformation").describe_stacks(StackName="radserve-demo-front")["Stacks"]
    assert {"FrontHttpUrl", "FrontRestUrl", "FrontUrl"} <= {item["OutputKey"] for item in stack["Outputs"]}

    aws.client("s3").put_object(Bucket=UPLOADS, Key="uploads/a/b", Body=b"film")
    said = aws.deploy("destroy", *words, "--yes")
    assert f"{UPLOADS}: 1 objects and old versions deleted" in said
    assert [item["Name"] for item in aws.client("s3").list_buckets()["Buckets"]] == [
        f"radserve-demo-access-{ACCOUNT}-{REGION}",
        BUCKET,
    ]
    assert "keep   radserve-demo-storage" in said


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            "package=nothing.zip",
            "package has value 'nothing.zip', which is no zip: make one with scripts/build-lambda.",
        ),
        ("front.ServerUrl=", "front: ServerUrl is missing; a package has no model inside"),
        ("front.HttpApi=no", "front: Nothing leads to the function; set HttpApi, RestApi or FunctionUrl to yes."),
        ("front.InVpc=yes", "front: InVpc is yes, but VpcId or PrivateSubnets is empty."),
        ("front.OidcIssuer=https://a.example", "front: OidcIssuer without OidcAudience"),
        ("front=image", "front: A function is made of either a package (PackageKey) or an image (ImageUri)."),
        ("front.Timeout=60", "front.Timeout has value '60': it must be one of 10, 15, 20, 28."),
        ("front.ApiKeysName=", "front.ApiKeysName has value '': it must be the name of a secret."),
        ("front=none", "parameters.front does not go with front none"),
        ("network.Egress=endpoints", "parameters.network does not go with home elsewhere"),
    ],
)
def test_what_does_not_go_together_is_refused_before_aws_is_asked(tmp_path: Path, change: str, said: str) -> None:
    path = tmp_path / "environment.yaml"
    path.write_text(FRONT, encoding="utf-8")
    with pytest.raises(SettingsError) as caught:
        stacks.values(template.load("front"), settings.load(path, [f"package={package(tmp_path)}", change]), GIVEN)
    assert said in str(caught.value)


def test_a_front_beside_a_service_takes_what_its_stacks_give(tmp_path: Path) -> None:
    chosen = Settings(
        environment="demo", front="zip", package=package(tmp_path), parameters={"front": {"ServerUrl": URL}}
    )
    assert stacks.chosen(chosen)[-2:] == ("monitoring", "front")
    values = stacks.values(template.load("front"), chosen, GIVEN)
    assert set(values.missing) == {"TopicArn", "VpcId", "PrivateSubnets"}
    made = template.load("front").resources(values.all())
    assert "HttpGateway" in made
    assert not {"RestGateway", "Url", "Group"} & set(made)


def test_an_image_needs_neither_package_nor_server() -> None:
    uri = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/radserve/lambda:0.1.0"
    chosen = Settings(environment="demo", home="elsewhere", front="image", parameters={"front": {"ImageUri": uri}})
    values = stacks.values(template.load("front"), chosen, GIVEN)
    assert values.missing == ()
    assert values.known["PackageKey"] == ""


def test_home_elsewhere_is_nothing_without_a_front() -> None:
    with pytest.raises(ValueError, match="home elsewhere without a front is nothing at all"):
        Settings(environment="demo", home="elsewhere")
    assert stacks.chosen(Settings(environment="demo", home="elsewhere", front="zip")) == ("storage", "secrets", "front")

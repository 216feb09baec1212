"""The front on Lambda: `radserve deploy` against moto's server, which does not run functions."""

import base64
import hashlib
import io
import zipfile
from pathlib import Path

import pytest

from radserve.deploy import parameters, settings, template
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
OUTPUTS = {
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
def arguments(aws: Aws) -> list[str]:
    """Arguments for an environment that has only a front; the server is elsewhere."""
    changes = (f"package={package(aws.folder)}", "front.RestApi=yes", "front.FunctionUrl=yes")
    return [str(aws.file(FRONT)), *(argument for change in changes for argument in ("--set", change))]


def packages(aws: Aws) -> list[str]:
    """List the uploaded packages."""
    objects = aws.client("s3").list_objects_v2(Bucket=BUCKET).get("Contents", [])
    return [item["Key"] for item in objects]


def test_front_is_created_updated_and_deleted_with_its_uploads(aws: Aws, arguments: list[str]) -> None:
    output = aws.deploy("apply", *arguments, "--yes")
    assert "radserve-demo-front: create" in output
    assert "1 x function: per request" in output
    assert "1 x HTTP API: per request" in output
    assert "radserve-demo-network" not in output
    path = aws.folder / "front.zip"
    digest = hashlib.sha256(path.read_bytes())
    key = f"packages/{digest.hexdigest()}.zip"
    assert f"uploaded to s3://{BUCKET}/{key}" in output
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

    assert "Nothing to change." in aws.deploy("apply", *arguments, "--yes")
    package(aws.folder, "handler = print\n")
    output = aws.deploy("apply", *arguments, "--yes")
    assert "radserve-demo-front is UPDATE_COMPLETE." in output
    assert len(packages(aws)) == 2
    (stack,) = aws.client("cloudformation").describe_stacks(StackName="radserve-demo-front")["Stacks"]
    assert {"FrontHttpUrl", "FrontRestUrl", "FrontUrl"} <= {item["OutputKey"] for item in stack["Outputs"]}

    aws.client("s3").put_object(Bucket=UPLOADS, Key="uploads/a/b", Body=b"film")
    output = aws.deploy("destroy", *arguments, "--yes")
    assert f"{UPLOADS}: 1 objects and old versions deleted" in output
    assert [item["Name"] for item in aws.client("s3").list_buckets()["Buckets"]] == [
        f"radserve-demo-access-{ACCOUNT}-{REGION}",
        BUCKET,
    ]
    assert "keep   radserve-demo-storage" in output


@pytest.mark.parametrize(
    ("change", "output"),
    [
        (
            "package=nothing.zip",
            "package has value 'nothing.zip', not a zip file: run scripts/build-lambda.",
        ),
        ("front.ServerUrl=", "front: ServerUrl is missing; a package contains no model"),
        ("front.HttpApi=no", "front: The function has no endpoint; set HttpApi, RestApi or FunctionUrl to yes."),
        ("front.InVpc=yes", "front: InVpc is yes, but VpcId or PrivateSubnets is empty."),
        ("front.OidcIssuer=https://a.example", "front: OidcIssuer without OidcAudience"),
        ("front=image", "front: Set either PackageKey (a package) or ImageUri (an image)."),
        ("front.Timeout=60", "front.Timeout has value '60': it must be one of 10, 15, 20, 28."),
        ("front.ApiKeysName=", "front.ApiKeysName has value '': it must be the name of a secret."),
        ("front=none", "parameters.front needs a front"),
        ("network.Egress=endpoints", "parameters.network cannot be used with home elsewhere"),
    ],
)
def test_contradicting_settings_are_rejected_before_any_request(tmp_path: Path, change: str, output: str) -> None:
    path = tmp_path / "environment.yaml"
    path.write_text(FRONT, encoding="utf-8")
    with pytest.raises(SettingsError) as caught:
        parameters.resolve(
            template.load("front"), settings.load(path, [f"package={package(tmp_path)}", change]), OUTPUTS
        )
    assert output in str(caught.value)


def test_front_of_a_service_uses_outputs_of_its_stacks(tmp_path: Path) -> None:
    environment = Settings(
        environment="demo", front="zip", package=package(tmp_path), parameters={"front": {"ServerUrl": URL}}
    )
    assert environment.stacks()[-2:] == ("monitoring", "front")
    values = parameters.resolve(template.load("front"), environment, OUTPUTS)
    assert set(values.missing) == {"TopicArn", "VpcId", "PrivateSubnets"}
    resources = template.load("front").resources(values.all())
    assert "HttpGateway" in resources
    assert not {"RestGateway", "Url", "Group"} & set(resources)


def test_front_from_an_image_needs_neither_package_nor_server() -> None:
    uri = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/radserve/lambda:0.1.0"
    environment = Settings(environment="demo", home="elsewhere", front="image", parameters={"front": {"ImageUri": uri}})
    values = parameters.resolve(template.load("front"), environment, OUTPUTS)
    assert values.missing == ()
    assert values.known["PackageKey"] == ""


def test_home_elsewhere_needs_a_front() -> None:
    with pytest.raises(ValueError, match="home elsewhere needs a front"):
        Settings(environment="demo", home="elsewhere")
    assert Settings(environment="demo", home="elsewhere", front="zip").stacks() == ("storage", "secrets", "front")

"""Request bodies of predictions in the OpenAPI document: one type for each operation."""

from typing import Annotated, Any, Final

from pydantic import BaseModel, Field
from pydantic.json_schema import SkipJsonSchema

from radserve.schema.domain import Repair

Base64 = Annotated[
    str, Field(description="The file in base64, or a data URL of it.", json_schema_extra={"contentEncoding": "base64"})
]
Assurances = Annotated[
    dict[str, str | float],
    Field(
        description="What the files do not state themselves (docs/scope.md), and the `prevalence` to assume "
        "(docs/certainty.md).",
        examples=[{"age": 5, "view": "PA"}],
    ),
]
_PNG: Final = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCBd81ytgAAAABJRU5ErkJggg=="
"""A gray PNG of one pixel."""


class _Body(BaseModel, extra="forbid"):
    """Base: unknown keys are errors."""


class EncodedImage(_Body):
    """One image."""

    image: Annotated[Base64, Field(examples=[_PNG])]
    assurances: Assurances | None = None
    repair: Repair | None = None


class Instance(_Body):
    """One image among several."""

    b64: Annotated[Base64, Field(examples=[_PNG])]
    assurances: Assurances | None = None


class EncodedImages(_Body):
    """Several images. One that cannot be analysed gets problem details in place of its result."""

    instances: Annotated[list[Instance], Field(min_length=1)]
    assurances: Assurances | None = None
    repair: Repair | None = None


class UploadedImage(_Body):
    """An image that was uploaded to object storage before (`POST /api/uploads`)."""

    object: Annotated[str, Field(description="`object` of the upload.")]


class LinkedImage(_Body):
    """An image at a URL; the operator lists the allowed hosts (`RADSERVE_GATEWAY_URL_HOSTS`)."""

    url: Annotated[str, Field(description="An https URL.", examples=["https://images.example.org/film.dcm"])]


class FilesForm(_Body):
    """A form with one or more files."""

    file: Annotated[
        list[Annotated[str, Field(json_schema_extra={"format": "binary"})]],
        Field(min_length=1, description="Images, or one zip of slices; the content of a file determines its format."),
    ]
    repair: Annotated[Repair | SkipJsonSchema[None], Field(description="Repair of all images, see docs/domain.md.")] = (
        None
    )


_DOCUMENTS: Final = (EncodedImage, EncodedImages, UploadedImage, LinkedImage)
MODELS: Final = (*_DOCUMENTS, FilesForm)
"""Models that the bodies refer to."""


def _reference(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{model.__name__}"}


def _body(media_type: str, description: str, schema: dict[str, Any], **more: Any) -> dict[str, Any]:
    content = {media_type: {"schema": schema, **more}}
    return {"requestBody": {"required": True, "description": description, "content": content}}


IMAGE: Final = _body(
    "application/octet-stream",
    "The bytes of one image, or of a zip of slices. The content determines the format; any Content-Type other than "
    "that of a form or of JSON is accepted.",
    {"type": "string", "format": "binary", "minLength": 1},
)
FILES: Final = _body("multipart/form-data", "A form with files.", _reference(FilesForm))
DOCUMENT: Final = _body(
    "application/json",
    "A JSON document with one or several images, or a reference to one.",
    {"oneOf": [_reference(model) for model in _DOCUMENTS]},
    examples={"image": {"summary": "One image", "value": {"image": _PNG}}}
    | {"images": {"summary": "Several images", "value": {"instances": [{"b64": _PNG}, {"b64": _PNG}]}}},
)

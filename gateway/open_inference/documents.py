"""Documents of the protocol: requests, responses and metadata."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictFloat, StrictInt, StrictStr

Parameters = dict[str, StrictBool | StrictInt | StrictFloat | StrictStr]
Datatype = Literal["BYTES", "FP64", "INT32"]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class InputTensor(_Request):
    """Tensor of a request; `data` is absent if it follows the document (parameter `binary_data_size`)."""

    name: StrictStr
    shape: tuple[Annotated[StrictInt, Field(ge=0)], ...]
    datatype: StrictStr
    parameters: Parameters = {}
    data: list[StrictStr | list[StrictStr]] | None = None


class RequestedOutput(_Request):
    """Output that a response must contain; the parameter `binary_data` chooses its encoding."""

    name: StrictStr
    parameters: Parameters = {}


class InferenceRequest(_Request):
    """Images to analyse: one tensor `image` of type BYTES, whose elements are files.

    In JSON, an element is the file in base64, or a string with one character (U+0000 to U+00FF) for each byte.
    """

    id: Annotated[StrictStr | None, Field(max_length=256, description="Returned with the response.")] = None
    parameters: Parameters = {}
    inputs: Annotated[list[InputTensor], Field(min_length=1, max_length=1)]
    outputs: Annotated[
        list[RequestedOutput] | None, Field(max_length=16, description="Outputs to return; all by default.")
    ] = None


class OutputTensor(BaseModel):
    """Tensor of a response; `data` is absent if it follows the document (parameter `binary_data_size`).

    In JSON, PNG files are in base64, and null is a probability that does not exist.
    """

    name: str
    datatype: Datatype
    shape: tuple[int, ...]
    parameters: Parameters | None = None
    data: list[str | float | int | None] | None = None


class InferenceResponse(BaseModel):
    """Results for the images of a request, in their order."""

    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[OutputTensor]


class TensorMetadata(BaseModel):
    """Name, type and shape of an input or output; -1 is the number of images."""

    name: str
    datatype: Datatype
    shape: tuple[int, ...]


class ModelMetadata(BaseModel):
    """Versions of a model, its inputs and outputs."""

    name: str
    versions: tuple[str, ...]
    platform: str
    inputs: tuple[TensorMetadata, ...]
    outputs: tuple[TensorMetadata, ...]


class ServerMetadata(BaseModel):
    """Name and version of the server, and the extensions of the protocol that it has."""

    name: str
    version: str
    extensions: tuple[str, ...]


class ServerLive(BaseModel):
    """Whether the server runs."""

    live: bool


class ServerReady(BaseModel):
    """Whether the server is ready for requests."""

    ready: bool


class ModelReady(BaseModel):
    """Whether a model is ready for requests."""

    name: str
    ready: bool

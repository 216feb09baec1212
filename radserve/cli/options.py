"""Groups of options that several commands share: dataclasses whose fields are options.

@dataclass(frozen=True)
class Location:
    store: str = setting("store", "RADSERVE_STORE", "Folder, s3://BUCKET/PREFIX, or https:// (read-only).")

@with_groups
def verify(location: Location) -> None: ...
"""

import functools
import inspect
from collections.abc import Callable
from dataclasses import field, fields, is_dataclass
from typing import Annotated, Any, Final, get_type_hints

import typer

_DECLARATION: Final = "typer"


def option(default: Any, text: str, *names: str, **settings: Any) -> Any:
    """Declare an option with its default and its help; see `typer.Option` for the rest."""
    return field(default=default, metadata={_DECLARATION: typer.Option(*names, help=text, **settings)})


def setting(default: Any, variable: str, text: str, *names: str, **settings: Any) -> Any:
    """Declare an option that an environment variable can set, too."""
    return option(default, text, *names, envvar=variable, **settings)


def argument(text: str) -> Any:
    """Declare a required argument."""
    return field(metadata={_DECLARATION: typer.Argument(help=text)})


def optional_argument(text: str, metavar: str) -> Any:
    """Declare an argument that may be omitted."""
    return field(default=None, metadata={_DECLARATION: typer.Argument(help=text, metavar=metavar)})


def with_groups(command: Callable[..., None]) -> Callable[..., None]:
    """Make each field of a parameter that is a dataclass an option of the command."""
    hints = get_type_hints(command, include_extras=True)
    groups = {name: _members(hint) for name, hint in hints.items() if is_dataclass(hint)}
    parameters = [
        member
        for name, own in inspect.signature(command).parameters.items()
        for member in groups.get(name) or [own.replace(annotation=hints[name])]
    ]

    @functools.wraps(command)
    def run(**values: Any) -> None:
        for name, members in groups.items():
            values[name] = hints[name](**{member.name: values.pop(member.name) for member in members})
        command(**values)

    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def _members(group: Any) -> list[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    signature = inspect.signature(group)
    members = []
    for item in fields(group):
        declaration, hint = item.metadata.get(_DECLARATION), hints[item.name]
        annotation = Annotated[hint, declaration] if declaration else hint
        default = signature.parameters[item.name].default
        members.append(
            inspect.Parameter(item.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        )
    return members

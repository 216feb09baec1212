"""Reads MONAI bundles: network, labels and preprocessing as data, without executing anything in them.

A bundle has `configs/inference.json` (or YAML), `configs/metadata.json` and `models/model.pt`. Its configuration may
contain Python expressions (`$...`). Those in the parts that are read here are rejected; all others are ignored. See
"MONAI Bundle Specification" in MONAI's documentation.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from radserve.build import monai_transforms
from radserve.build.monai_transforms import Preprocessing
from radserve.build.new_model import Draft
from radserve.errors import BundleError
from training.networks.library import DIFFERENCE, TRANSPOSED

_CONFIGS: Final = ("inference.json", "inference.yaml", "inference.yml")
_NETWORKS: Final = ("network_def", "network", "net")  # keys of the network, in order of preference
_NETS: Final = re.compile(r"(monai\.networks\.nets\.(\w+\.)*)?(\w+)")
_DATA_FORMAT: Final = "network_data_format"
THRESHOLD: Final = "The threshold of the bundle's postprocessing."
_BACKGROUND: Final = "background"
_CLASSIFICATIONS: Final = ("class", "label", "probabilit")  # parts of the names of a classifier's output format
_VERSION: Final = re.compile(r"\d+\.\d+(\.\d+)?")
_MODALITY: Final = re.compile(r"[A-Z]{2,16}")
_DEPTH: Final = 20  # levels of references and of nested values


@dataclass(frozen=True)
class Bundle:
    """A bundle whose network, labels and preprocessing a recipe can express."""

    draft: Draft
    weights: Path


def read(
    folder: Path, name: str, labels: Sequence[str] = (), activation: str | None = None, *, approximate: bool = False
) -> Bundle:
    """Read a bundle as the description of the model `name`.

    `labels` are needed if the metadata does not name the channels of the output, `activation` if the postprocessing
    has none. `approximate` accepts another filter of Resize than the bundle's, and records that in the warning. Raises
    BundleError with the reason if a part is missing, contains code, or cannot be expressed.
    """
    config, metadata = _Config(folder, _inference(folder)), _metadata(folder)
    network, args = _network(config)
    preprocessing = monai_transforms.preprocessing(
        config.transforms("preprocessing"), _channels(metadata, "inputs"), _shape(metadata), approximate=approximate
    )
    output = _Output.of(metadata, config, labels, activation)
    args |= {TRANSPOSED: True} if preprocessing.transposed else {}
    args |= {DIFFERENCE: True} if output.difference else {}
    draft = Draft(
        name=name,
        network=f"monai:{network}",
        network_args=args,
        labels=output.labels,
        input=preprocessing.input,
        task=output.task,
        version=_version(metadata),
        title=metadata.get("description") or metadata.get("task") or metadata.get("name"),
        **output.decision,
        activation=output.activation,
        scope=_scope(metadata),
        trained_on=metadata.get("data_source"),
        licence=metadata.get("license"),
        warnings=_warnings(metadata, preprocessing),
    )
    return Bundle(draft, _weights(folder))


@dataclass(frozen=True)
class _Config:
    """The configuration of a bundle, from which values are read without code."""

    folder: Path
    content: Mapping[str, Any]

    def transforms(self, key: str) -> tuple[Mapping[str, Any], ...]:
        """Return the transforms of a `Compose`, without the disabled ones."""
        compose = self.plain(self.content.get(key, []), key)
        items = compose.get("transforms", []) if isinstance(compose, Mapping) else compose
        if not isinstance(items, list) or not all(isinstance(item, Mapping) and "_target_" in item for item in items):
            raise BundleError(f"{self.folder}: {key} is not a list of transforms with '_target_'.")
        return tuple(item for item in items if not item.get("_disabled_", False))

    def plain(self, value: Any, where: str, depth: int = 0) -> Any:
        """Resolve references (`@key#key`) to plain data; `BundleError` for an expression."""
        if depth > _DEPTH:
            raise BundleError(f"{self.folder}: {where} is nested too deeply, or refers to itself.")
        if isinstance(value, Mapping):
            return {key: self.plain(item, f"{where}#{key}", depth + 1) for key, item in value.items()}
        if isinstance(value, list):
            return [self.plain(item, f"{where}#{index}", depth + 1) for index, item in enumerate(value)]
        if not isinstance(value, str) or not value.startswith(("$", "@", "%")):
            return value
        if not value.startswith("@"):
            raise BundleError(
                f"{self.folder}: {where} has value {value!r}, which is code or a reference to another file. Code of a "
                "bundle is never executed. Replace it by its value."
            )
        return self.plain(self._referenced(value, where), value, depth + 1)

    def _referenced(self, reference: str, where: str) -> Any:
        value: Any = self.content
        for part in re.split(r"::|#", reference.removeprefix("@")):
            try:
                value = value[int(part)] if isinstance(value, list) else value[part]
            except (KeyError, IndexError, TypeError, ValueError):
                raise BundleError(f"{self.folder}: {where} refers to {reference}, which does not exist.") from None
        return value


@dataclass(frozen=True)
class _Output:
    """The output of the network, as a recipe has it."""

    task: str
    labels: tuple[str, ...]
    activation: str
    difference: bool  # whether two logits become one
    threshold: float | None

    @property
    def decision(self) -> dict[str, Any]:
        """The bundle's threshold, if it has one, which is for the second label."""
        if self.threshold is None:
            return {}
        return {"positive": self.labels[1], "threshold": self.threshold, "chosen": THRESHOLD}

    @classmethod
    def of(cls, metadata: Mapping[str, Any], config: _Config, given: Sequence[str], kind: str | None) -> "_Output":
        task, names, count = _task(metadata), _channel_names(metadata), _channels(metadata, "outputs")
        activation, threshold = monai_transforms.activation(config.transforms("postprocessing"), count, kind)
        if activation == "sigmoid" and count > 1:
            raise BundleError(
                f"metadata: {count} independent outputs (sigmoid) do not exclude each other; a recipe needs a softmax."
            )
        if task == "segmentation":
            labels = _mask_labels(names, given, count)
            return cls(task, labels, "sigmoid", difference=count == 2, threshold=threshold)
        return cls(task, _labels(names, given, count), activation, difference=False, threshold=threshold)


def _labels(names: Sequence[str], given: Sequence[str], count: int) -> tuple[str, ...]:
    """Return the labels in the order of the outputs; that order is never guessed."""
    if not given and (count == 1 or not names):
        raise BundleError(
            "metadata: the labels of the output are unknown (key channel_def). Give them with --labels, in the order "
            "of the network's outputs; of a single output, the second label is the one whose probability it is."
        )
    if not given:
        return tuple(names)
    if len(given) != max(count, 2):
        raise BundleError(
            f"--labels has {len(given)} labels; the bundle needs {max(count, 2)}: {', '.join(filter(None, names))}."
        )
    if count == 1 and names and _plain(given[1]) != _plain(names[0]):
        raise BundleError(
            f"--labels has {given[1]!r} in the second place; the single output of the bundle is the probability of "
            f"{names[0]!r}. Give --labels OTHER,{names[0]}."
        )
    if count > 1:
        _check_order(given, names)
    return tuple(given)


def _check_order(given: Sequence[str], names: Sequence[str]) -> None:
    """Reject labels of which one has the name of another channel; names are compared without case and spaces."""
    plain = [_plain(name) for name in names]
    for index, label in enumerate(given):
        if _plain(label) in plain and plain.index(_plain(label)) != index:
            raise BundleError(
                f"--labels has another order than the channel_def of the bundle: {', '.join(filter(None, names))}. It "
                f"has {label!r} in place {index + 1}. Correct or omit it."
            )


def _plain(name: str) -> str:
    return " ".join(name.casefold().replace("_", " ").replace("-", " ").split())


def _mask_labels(names: Sequence[str], given: Sequence[str], count: int) -> tuple[str, ...]:
    if count > 2:
        raise BundleError(f"metadata: the mask has {count} channels ({', '.join(names)}); a recipe has one finding.")
    foreground = names[-1] if names else _BACKGROUND
    if len(names) == 2 and _plain(foreground) == _BACKGROUND:
        raise BundleError(
            f"metadata: channel_def ({', '.join(names)}) has the background second; the finding must be the second."
        )
    if not given and _plain(foreground) == _BACKGROUND:
        raise BundleError("metadata: channel_def does not name the finding. Give --labels background,FINDING.")
    named = tuple(names) if len(names) == 2 else (_BACKGROUND, foreground if names else "")
    return _labels(named if names or given else (), given, 2)


def _inference(folder: Path) -> Mapping[str, Any]:
    for name in _CONFIGS:
        path = folder / "configs" / name
        if path.is_file():
            return _mapping(path)
    raise BundleError(f"{folder}: is not a MONAI bundle: none of {', '.join(_CONFIGS)} in its folder configs.")


def _metadata(folder: Path) -> Mapping[str, Any]:
    path = folder / "configs" / "metadata.json"
    if not path.is_file():
        raise BundleError(f"{path}: missing. It names the inputs and outputs of the network.")
    return _mapping(path)


def _mapping(path: Path) -> Mapping[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError) as error:
        raise BundleError(f"{path}: cannot be read: {error}") from error
    if not isinstance(content, Mapping):
        raise BundleError(f"{path}: has {type(content).__name__}, not an object.")
    return content


def _network(config: _Config) -> tuple[str, dict[str, Any]]:
    definitions = {key: config.content.get(key) for key in _NETWORKS}
    key = next((key for key, value in definitions.items() if isinstance(value, Mapping) and "_target_" in value), None)
    if key is None:
        raise BundleError(f"{config.folder}: defines no network as data (one of {', '.join(_NETWORKS)}).")
    args = dict(config.plain(definitions[key], key))
    target = str(args.pop("_target_"))
    match = _NETS.fullmatch(target)
    if match is None:
        raise BundleError(
            f"{config.folder}: the network {target} is not one of monai.networks.nets. Code of a bundle is never "
            "executed."
        )
    if args.get("spatial_dims", 2) != 2:
        raise BundleError(f"{config.folder}: the network is for {args['spatial_dims']} dimensions, a recipe for 2.")
    return match[3], {key: value for key, value in args.items() if not key.startswith("_")}


def _weights(folder: Path) -> Path:
    path = folder / "models" / "model.pt"
    if not path.is_file():
        raise BundleError(f"{path}: missing. Download the weights of the bundle; TorchScript (model.ts) is code.")
    return path


def _part(metadata: Mapping[str, Any], side: str) -> Mapping[str, Any]:
    try:
        entries = metadata[_DATA_FORMAT][side]
        (entry,) = entries.values()
    except (KeyError, AttributeError, TypeError, ValueError):
        raise BundleError(f"metadata: {_DATA_FORMAT}.{side} must have exactly one entry.") from None
    if not isinstance(entry, Mapping):
        raise BundleError(f"metadata: {_DATA_FORMAT}.{side} has an entry that is not an object.")
    return entry


def _channels(metadata: Mapping[str, Any], side: str) -> int:
    part = _part(metadata, side)
    count = part.get("num_channels", len(part.get("channel_def", {})))
    if not isinstance(count, int) or count < 1:
        raise BundleError(f"metadata: {_DATA_FORMAT}.{side} has no num_channels.")
    return count


def _channel_names(metadata: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the output's channels in order; empty if there are none."""
    names = _part(metadata, "outputs").get("channel_def") or {}
    count = _channels(metadata, "outputs")
    if not names:
        return ()
    if set(names) != {str(index) for index in range(count)}:
        raise BundleError(f"metadata: channel_def has the keys {sorted(names)}; expected 0 to {count - 1}.")
    return tuple(str(names[str(index)]) for index in range(count))


def _shape(metadata: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return the spatial shape of the input, if the metadata states numbers."""
    shape = _part(metadata, "inputs").get("spatial_shape", [])
    if _part(metadata, "inputs").get("is_patch_data"):
        raise BundleError("metadata: the network takes patches of an image; a recipe's network takes the whole image.")
    if len(shape) == 2 and all(isinstance(side, int) for side in shape):
        return shape[0], shape[1]
    return None


def _task(metadata: Mapping[str, Any]) -> str:
    output = str(_part(metadata, "outputs").get("format", "")).lower()
    if "segmentation" in output:
        return "segmentation"
    if any(part in output for part in _CLASSIFICATIONS):
        return "classification"
    raise BundleError(f"metadata: the output has the format {output!r}; expected segmentation, or classes.")


def _version(metadata: Mapping[str, Any]) -> str:
    version = str(metadata.get("version", ""))
    return version if _VERSION.fullmatch(version) else "1.0.0"


def _scope(metadata: Mapping[str, Any]) -> dict[str, Any]:
    modality = str(_part(metadata, "inputs").get("modality", ""))
    return {"modality": (modality,)} if _MODALITY.fullmatch(modality) else {}


def _warnings(metadata: Mapping[str, Any], preprocessing: Preprocessing) -> tuple[str, ...]:
    use = metadata.get("intended_use")
    return (*preprocessing.notes, *([f"Intended use of the bundle: {use}"] if use else []))

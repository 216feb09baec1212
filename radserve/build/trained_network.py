"""Networks of recipes, with weights, ready for export."""

import logging
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import fx
from torch.nn.utils.fusion import fuse_conv_bn_eval

from handlers.recipe import Recipe
from radserve.build.model_store import sha256
from radserve.errors import BuildError
from training import networks
from training.networks import moments
from training.networks.adapter import UNTRACEABLE

logger = logging.getLogger(__name__)


def load(recipe: Recipe, weights: Path) -> torch.nn.Module:
    """Create the network in evaluation mode and single precision; BuildError if the weights do not match the recipe."""
    if recipe.weights.sha256 is None:
        raise BuildError(
            f"{weights}: exists, but the recipe has no 'weights.sha256'. Use '--install' of 'radserve train' or "
            "'radserve import' to install weights."
        )
    digest = sha256(weights)
    if digest != recipe.weights.sha256:
        raise BuildError(
            f"{weights}: has sha256 {digest}, the recipe's key 'weights.sha256' is {recipe.weights.sha256}."
        )
    network = create(recipe)
    try:
        state = {
            name: value.float() if value.is_floating_point() else value for name, value in load_file(weights).items()
        }
        network.load_state_dict(state)
    except (SafetensorError, RuntimeError) as error:
        raise BuildError(f"{weights}: does not fit the network {recipe.network!r}: {error}") from error
    network.eval().requires_grad_(requires_grad=False)
    return network


def load_for_export(recipe: Recipe, weights: Path) -> torch.nn.Module:
    """Create the network as an archive holds it: with the moments of the layers that its detector reads."""
    network = load(recipe, weights)
    layers = () if recipe.detector is None else recipe.detector.layers
    return moments.add(network, layers) if layers else network


def create(recipe: Recipe) -> torch.nn.Module:
    """Create a recipe's network with random weights."""
    try:
        return networks.for_recipe(recipe)
    except ModuleNotFoundError as error:
        raise BuildError(
            f"{recipe.name}: its network requires {error.name}, which is not installed. Run: uv sync --group train."
        ) from error


def fuse(network: torch.nn.Module) -> torch.nn.Module:
    """Fold batch normalisation into the preceding convolutions.

    The outputs are equal up to rounding, which `radserve.build.export` verifies. Returns a new module; `network` is
    unchanged. A network that `torch.fx` cannot trace is returned unchanged: it is exported all the same, and only
    slower.
    """
    try:
        traced = moments.trace(network)
    except UNTRACEABLE as error:
        logger.info("batch normalisation is not folded: torch.fx cannot trace the network (%s)", error)
        return network
    modules = dict(traced.named_modules())
    for node in list(traced.graph.nodes):
        norm, before = modules.get(str(node.target)), node.args[0] if node.args else None
        if node.op != "call_module" or not isinstance(norm, torch.nn.BatchNorm2d) or not isinstance(before, fx.Node):
            continue
        convolution = modules.get(str(before.target))
        if isinstance(convolution, torch.nn.Conv2d) and len(before.users) == 1:
            traced.set_submodule(str(before.target), fuse_conv_bn_eval(convolution, norm))
            node.replace_all_uses_with(before)
            traced.graph.erase_node(node)
    traced.delete_all_unused_submodules()
    traced.recompile()
    return traced

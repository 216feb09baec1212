"""Networks, by the name in a recipe's `network` key.

Requires torch, and for some networks torchvision or MONAI. Every network takes (N, channels, height, width) and returns
a dict of tensors with N rows each:

- `logits`, (N, outputs), or (N, outputs, height, width) of a segmentation;
- `features` of most classifiers: activations of a late convolution, after its normalisation and ReLU and before the
  following pool, where Grad-CAM has the highest resolution;
- `attention` of networks with self-attention, (N, heads, tokens, tokens): the weight of each token (column) for each
  token (row).

Keys and shapes of the weights are those of the original systems, so their checkpoints load unchanged. Networks of
libraries have a prefix, like `torchvision:resnet18`; see `training.networks.library`.
"""

from collections.abc import Callable
from typing import Final

from torch import nn

from handlers.recipe import Recipe
from training.errors import NetworkError
from training.networks import brain_tumor, cifar10, library, public
from training.networks.chest_xray_cnn import ChestXrayCnn

_NETWORKS: Final[dict[str, Callable[[int], nn.Module]]] = {
    "brain_tumor_attention": brain_tumor.BrainTumorAttention,
    "brain_tumor_cnn": brain_tumor.BrainTumorCnn,
    "brain_tumor_cnn_attention": brain_tumor.BrainTumorCnnAttention,
    "brain_tumor_vgg16": public.BrainTumorVgg16,
    "chest_xray_cnn": ChestXrayCnn,
    "chest_xray_resnet50": public.ChestXrayResnet50,
    "cifar10_lenet": cifar10.LeNet,
    "cifar10_vgg11": cifar10.Vgg,
    "glioma_attention_unet": public.GliomaAttentionUnet,
    "glioma_unet": public.GliomaUnet,
}


def create(name: str, outputs: int) -> nn.Module:
    """Create a network with random weights and this number of logits; `NetworkError` if the name is unknown."""
    if name not in _NETWORKS:
        raise NetworkError(f"network: unknown name {name!r}. Available: {', '.join(sorted(_NETWORKS))}.")
    return _NETWORKS[name](outputs)


def for_recipe(recipe: Recipe) -> nn.Module:
    """Create the network of a recipe with random weights."""
    if library.is_library(recipe.network):
        dense = recipe.task == "segmentation"
        shape = recipe.input.channels, recipe.input.height, recipe.input.width
        return library.create(recipe.network, recipe.outputs, recipe.network_args, shape, dense=dense)
    if recipe.network_args:
        raise NetworkError(
            f"network_args: {recipe.network} accepts no arguments. Remove {sorted(recipe.network_args)}."
        )
    return create(recipe.network, recipe.outputs)

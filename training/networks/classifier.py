"""Base class of classifiers."""

from typing import ClassVar

from torch import nn


class Classifier(nn.Module):
    """A network that ends in a linear layer, its head, whose dotted name is `HEAD`."""

    HEAD: ClassVar[str]

    @property
    def head(self) -> nn.Module:
        """The layer that computes the logits."""
        return self.get_submodule(self.HEAD)

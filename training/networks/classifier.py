"""Base class of classifiers."""

from __future__ import annotations

from typing import ClassVar

from torch import nn


class Classifier(nn.Module):
    """A network that ends in a linear layer, its head.

    Attributes
    ----------
    HEAD
        Dotted name of the head.
    """

    HEAD: ClassVar[str]

    @property
    def head(self) -> nn.Module:
        """The layer that computes the logits."""
        return self.get_submodule(self.HEAD)

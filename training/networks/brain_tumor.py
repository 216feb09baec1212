"""The brain slice networks of system S0: a convolutional trunk, attention over tokens, or both.

Keys and shapes are those of the original system, so its checkpoints load unchanged. All take slices of
3 x 224 x 224.
"""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import nn
from torch.nn.functional import adaptive_avg_pool2d, max_pool2d

WIDTH: Final = 512
"""Of a token inside the attention."""


class _Trunk(nn.Module):
    """Four convolutions, 260,928 parameters; a base class, since the keys have no prefix for it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer1, self.layer2 = _block(3, 64), _block(64, 64)
        self.layer3, self.layer4 = _block(64, 128), _block(128, 128)

    def see(self, x: torch.Tensor) -> torch.Tensor:
        """Slices (N, 3, 224, 224) to features (N, 128, 112, 112), before the trunk's last pool."""
        features: torch.Tensor = self.layer4(self.layer3(max_pool2d(self.layer2(self.layer1(x)), 2)))
        return features


class BrainTumorCnn(_Trunk):
    """Four convolutions and two linear layers; 5,883,330 parameters with two labels.

    Parameters
    ----------
    outputs
        Number of logits.
    """

    def __init__(self, outputs: int = 2) -> None:
        super().__init__()
        self.fc1 = nn.Sequential(nn.Linear(128 * 7 * 7, 896), nn.ReLU(), nn.Dropout(0.5))
        self.fc2 = nn.Sequential(nn.Linear(896, outputs))

    @property
    def head(self) -> nn.Module:
        """The layer that gives the logits."""
        return self.fc2[0]

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Run the network.

        Returns
        -------
        `logits`, (N, outputs), and `features`, (N, 128, 112, 112): what the last convolution gives,
        after its normalisation and ReLU and before the last pool.
        """
        features = self.see(x)
        x = adaptive_avg_pool2d(max_pool2d(features, 2), 7).flatten(1)
        return {"logits": self.fc2(self.fc1(x)), "features": features}


class BrainTumorCnnAttention(_Trunk):
    """The same trunk, and one self-attention over its 49 tokens; 1,624,386 parameters with two labels.

    Parameters
    ----------
    outputs
        Number of logits.
    """

    def __init__(self, outputs: int = 2) -> None:
        super().__init__()
        self.patch_embedding_layer = nn.Linear(128 * 4, WIDTH)
        self.register_buffer("positions", positions(49, WIDTH), persistent=False)
        self.positions: torch.Tensor
        self.sa = SelfAttention(WIDTH, heads=2)
        self.fc = nn.Sequential(nn.Linear(49 * WIDTH, outputs))

    @property
    def head(self) -> nn.Module:
        """The layer that gives the logits."""
        return self.fc[0]

    def tokens(self, x: torch.Tensor) -> torch.Tensor:
        """Cut what the trunk gives into tokens: (N, 128, 14, 14) to (N, 49, 512)."""
        return runs(x, 49, 2)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Run the network.

        Returns
        -------
        `logits`, (N, outputs); `features`, (N, 128, 112, 112), as of `BrainTumorCnn`; and `attention`,
        (N, 2, 49, 49): how much each token (row) takes of each other.
        """
        features = self.see(x)
        x = self.tokens(adaptive_avg_pool2d(max_pool2d(features, 2), 14))
        x, attention = self.sa(self.patch_embedding_layer(x) + self.positions)
        return {"logits": self.fc(x.flatten(1)), "features": features, "attention": attention}


class BrainTumorAttention(nn.Module):
    """One self-attention over 400 tokens of the slice itself; 1,614,338 parameters with two labels.

    Parameters
    ----------
    outputs
        Number of logits.
    """

    def __init__(self, outputs: int = 2) -> None:
        super().__init__()
        self.patch_embedding_layer = nn.Linear(3 * 100, WIDTH)
        self.register_buffer("positions", positions(400, WIDTH), persistent=False)
        self.positions: torch.Tensor
        self.sa = SelfAttention(WIDTH, heads=2)
        self.fc = nn.Sequential(nn.Linear(400 * WIDTH, outputs))

    @property
    def head(self) -> nn.Module:
        """The layer that gives the logits."""
        return self.fc[0]

    def tokens(self, x: torch.Tensor) -> torch.Tensor:
        """Cut a slice into tokens: (N, 3, 200, 200) to (N, 400, 300)."""
        return runs(x, 400, 10)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Run the network.

        Returns
        -------
        `logits`, (N, outputs), and `attention`, (N, 2, 400, 400): how much each token (row) takes of
        each other.
        """
        x = self.tokens(adaptive_avg_pool2d(x, 200))
        x, attention = self.sa(self.patch_embedding_layer(x) + self.positions)
        return {"logits": self.fc(x.flatten(1)), "attention": attention}


class SelfAttention(nn.Module):
    """Scaled dot-product attention (Vaswani et al. 2017, section 3.2), and nothing around it.

    Parameters
    ----------
    width
        Of a token; each of `heads` heads sees an equal part of it.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.W_q = nn.Linear(width, width)
        self.W_k = nn.Linear(width, width)
        self.W_v = nn.Linear(width, width)
        self.W_o = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mix tokens, (N, tokens, width); also gives the weights, (N, heads, tokens, tokens)."""
        queries, keys, values = self._split(self.W_q(x)), self._split(self.W_k(x)), self._split(self.W_v(x))
        attention = torch.softmax(queries @ keys.mT / math.sqrt(queries.shape[-1]), dim=-1)
        mixed = (attention @ values).transpose(1, 2).flatten(2)
        return self.W_o(mixed), attention

    def _split(self, x: torch.Tensor) -> torch.Tensor:
        # Sizes by name: a starred shape cannot be traced.
        return x.view(x.shape[0], x.shape[1], self.heads, -1).transpose(1, 2)


def runs(x: torch.Tensor, count: int, side: int) -> torch.Tensor:
    """Cut a map into tokens as the original system does.

    Its `view(-1, channels, count, side, side)` does not cut squares: of each channel a token holds a run
    of side * side values that follow one another in memory, row after row.

    Parameters
    ----------
    x
        Shape (N, channels, height, width), with height * width = count * side * side.

    Returns
    -------
    Shape (N, count, channels * side * side).
    """
    # Contiguous first: in memory laid out as channels_last a view would cut elsewhere, or fail.
    cut = x.contiguous().view(-1, x.shape[1], count, side, side)
    return cut.transpose(1, 2).flatten(2)


def positions(count: int, width: int) -> torch.Tensor:
    """Sinusoidal positions (Vaswani et al. 2017, section 3.5): sine on even places, cosine on odd ones.

    Returns
    -------
    Shape (count, width).
    """
    angles = torch.arange(count)[:, None] * torch.exp(-math.log(10_000) * torch.arange(0, width, 2) / width)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)


def _block(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, after, kernel_size=3, padding=1), nn.BatchNorm2d(after), nn.ReLU())

"""Brain slice networks of system S0, for slices of 3 x 224 x 224: convolutions, self-attention, or both."""

import math
from typing import Final

import torch
from torch import nn
from torch.nn.functional import adaptive_avg_pool2d, max_pool2d

WIDTH: Final = 512  # width of a token inside the attention


class _Trunk(nn.Module):
    """Four convolutions, 260,928 parameters; a base class, because the keys of the trunk have no prefix."""

    def __init__(self) -> None:
        super().__init__()
        self.layer1, self.layer2 = _block(3, 64), _block(64, 64)
        self.layer3, self.layer4 = _block(64, 128), _block(128, 128)

    def trunk(self, x: torch.Tensor) -> torch.Tensor:
        """Return features (N, 128, 112, 112), before the last pool of the trunk."""
        features: torch.Tensor = self.layer4(self.layer3(max_pool2d(self.layer2(self.layer1(x)), 2)))
        return features


class BrainTumorCnn(_Trunk):
    """The trunk and two linear layers; 5,883,330 parameters with two labels."""

    def __init__(self, outputs: int = 2) -> None:
        super().__init__()
        self.fc1 = nn.Sequential(nn.Linear(128 * 7 * 7, 896), nn.ReLU(), nn.Dropout(0.5))
        self.fc2 = nn.Sequential(nn.Linear(896, outputs))

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return `logits` and `features`, (N, 128, 112, 112)."""
        features = self.trunk(x)
        x = adaptive_avg_pool2d(max_pool2d(features, 2), 7).flatten(1)
        return {"logits": self.fc2(self.fc1(x)), "features": features}


class BrainTumorCnnAttention(_Trunk):
    """The trunk and self-attention over its 49 tokens; 1,624,386 parameters with two labels."""

    def __init__(self, outputs: int = 2) -> None:
        super().__init__()
        self.patch_embedding_layer = nn.Linear(128 * 4, WIDTH)
        self.register_buffer("positions", positions(49, WIDTH), persistent=False)
        self.positions: torch.Tensor
        self.sa = SelfAttention(WIDTH, heads=2)
        self.fc = nn.Sequential(nn.Linear(49 * WIDTH, outputs))

    def tokens(self, x: torch.Tensor) -> torch.Tensor:
        """Split features (N, 128, 14, 14) into tokens (N, 49, 512)."""
        return split_tokens(x, 49, 2)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return `logits`, `features`, (N, 128, 112, 112), and `attention`, (N, 2, 49, 49)."""
        features = self.trunk(x)
        x = self.tokens(adaptive_avg_pool2d(max_pool2d(features, 2), 14))
        x, attention = self.sa(self.patch_embedding_layer(x) + self.positions)
        return {"logits": self.fc(x.flatten(1)), "features": features, "attention": attention}


class BrainTumorAttention(nn.Module):
    """Self-attention over 400 tokens of the slice; 1,614,338 parameters with two labels."""

    def __init__(self, outputs: int = 2) -> None:
        super().__init__()
        self.patch_embedding_layer = nn.Linear(3 * 100, WIDTH)
        self.register_buffer("positions", positions(400, WIDTH), persistent=False)
        self.positions: torch.Tensor
        self.sa = SelfAttention(WIDTH, heads=2)
        self.fc = nn.Sequential(nn.Linear(400 * WIDTH, outputs))

    def tokens(self, x: torch.Tensor) -> torch.Tensor:
        """Split a slice (N, 3, 200, 200) into tokens (N, 400, 300)."""
        return split_tokens(x, 400, 10)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return `logits` and `attention`, (N, 2, 400, 400)."""
        x = self.tokens(adaptive_avg_pool2d(x, 200))
        x, attention = self.sa(self.patch_embedding_layer(x) + self.positions)
        return {"logits": self.fc(x.flatten(1)), "attention": attention}


class SelfAttention(nn.Module):
    """Scaled dot-product self-attention (Vaswani et al. 2017, section 3.2), without residual or normalisation."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.W_q = nn.Linear(width, width)
        self.W_k = nn.Linear(width, width)
        self.W_v = nn.Linear(width, width)
        self.W_o = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return tokens (N, tokens, width) and attention weights (N, heads, tokens, tokens)."""
        queries, keys, values = self._split(self.W_q(x)), self._split(self.W_k(x)), self._split(self.W_v(x))
        attention = torch.softmax(queries @ keys.mT / math.sqrt(queries.shape[-1]), dim=-1)
        mixed = (attention @ values).transpose(1, 2).flatten(2)
        return self.W_o(mixed), attention

    def _split(self, x: torch.Tensor) -> torch.Tensor:
        # Explicit sizes, because an unpacked shape cannot be traced.
        return x.view(x.shape[0], x.shape[1], self.heads, -1).transpose(1, 2)


def split_tokens(x: torch.Tensor, count: int, side: int) -> torch.Tensor:
    """Split a feature map (N, channels, height, width) into tokens (N, count, channels * side * side).

    The original system's `view(-1, channels, count, side, side)` does not cut squares: a token has, of each channel,
    side * side values that are contiguous in memory, row by row.
    """
    # Contiguous, because views of channels_last memory would cut elsewhere or fail.
    cut = x.contiguous().view(-1, x.shape[1], count, side, side)
    return cut.transpose(1, 2).flatten(2)


def positions(count: int, width: int) -> torch.Tensor:
    """Return sinusoidal positional encodings (Vaswani et al. 2017, section 3.5), shape (count, width)."""
    angles = torch.arange(count)[:, None] * torch.exp(-math.log(10_000) * torch.arange(0, width, 2) / width)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)


def _block(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, after, kernel_size=3, padding=1), nn.BatchNorm2d(after), nn.ReLU())

"""The ESS adapter with a Transformer in place of the MLP. Source: Table 5; docs/decisions/0007.

Knows embeddings one by one: no point sees another, as in equation 1.

Legend: M embeddings, D their length, H the hidden width, T tokens, W = H / T a token's width.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from storage.errors import SpecInvalid
from storage.specs.parts import Adapter as AdapterSpec

NUM_TOKENS = 4
"""T: into how many tokens the hidden values of an embedding are cut; a point attends to its own only."""

_FEED_FORWARD_RATIO = 4


class TransformerBlock(nn.Module):
    """One pre-norm encoder block: x + attend(norm(x)), then x + feed(norm(x)); one head, no dropout.

    Both branches end in zeros at first, so that an untrained block passes its input on.
    Source: Vaswani et al., "Attention Is All You Need", 2017, sections 3.2 and 3.3; norms first as in GPT-2.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.queries_keys_values = nn.Linear(width, 3 * width)
        self.attended = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.feed1 = nn.Linear(width, _FEED_FORWARD_RATIO * width)
        self.feed2 = nn.Linear(_FEED_FORWARD_RATIO * width, width)
        for last in (self.attended, self.feed2):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def forward(self, x_MTW: Tensor) -> Tensor:
        """(M,T,W) to (M,T,W); the T tokens of each of the M attend to each other."""
        query, key, value = self.queries_keys_values(self.norm1(x_MTW)).chunk(3, dim=2)
        # Written out: fused attention counts its batches, here points, in a grid of 65,535 on some GPUs.
        weights_MTT = torch.softmax(query @ key.transpose(1, 2) / math.sqrt(x_MTW.shape[2]), dim=2)
        x_MTW = x_MTW + self.attended(weights_MTT @ value)
        fed: Tensor = self.feed2(functional.gelu(self.feed1(self.norm2(x_MTW))))
        return x_MTW + fed


class TransformerAdapter(nn.Module):
    """A^3D = alpha * Transformer(P^2D) + (1 - alpha) * P^2D.

    The Transformer embeds P^2D in T tokens of H / T values, passes them through one block, and brings them back to D:
    between the MLP's two linear layers stands a block. The embedding's bias is what tells the tokens' places.

    Args:
        dimension: D, the length of an embedding.
        spec: width of the hidden layer and alpha.

    Raises:
        SpecInvalid: the hidden width cannot be cut into T tokens of two values or more.
    """

    def __init__(self, dimension: int, spec: AdapterSpec) -> None:
        super().__init__()
        hidden = spec.hidden or dimension // 4
        if hidden % NUM_TOKENS or hidden < 2 * NUM_TOKENS:
            raise SpecInvalid(
                f"got a transformer adapter with a hidden width of {hidden} for embeddings of {dimension} values, "
                f"expected a multiple of {NUM_TOKENS} from {2 * NUM_TOKENS} on; set `adapter.hidden`"
            )
        self.embed = nn.Linear(dimension, hidden)
        self.block = TransformerBlock(hidden // NUM_TOKENS)
        self.back = nn.Linear(hidden, dimension)
        self.alpha = spec.alpha

    def forward(self, embeddings: Tensor) -> Tensor:
        """(M,D) 2D-projected embeddings to (M,D) adapted ones; every row by itself, so M may be 0."""
        tokens_MTW = self.embed(embeddings).unflatten(1, (NUM_TOKENS, -1))
        adapted: Tensor = self.alpha * self.back(self.block(tokens_MTW).flatten(1)) + (1 - self.alpha) * embeddings
        return adapted

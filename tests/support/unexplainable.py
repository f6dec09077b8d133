"""Networks that no relevance rule can follow."""

import torch
from torch import nn


class Twice(nn.Module):
    """A network that rules cannot follow: a functional addition hands all relevance to both sides."""

    def __init__(self) -> None:
        super().__init__()
        self.flatten, self.linear, self.head = nn.Flatten(), nn.Linear(8 * 16 * 16, 8), nn.Linear(8, 3)

    def forward(self, video: torch.Tensor) -> torch.Tensor:
        hidden = self.linear(self.flatten(video))
        return self.head(hidden + hidden)  # type: ignore[no-any-return]

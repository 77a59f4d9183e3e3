"""What a network makes of the plane: the class it gives to each point of a grid, and how surely."""

import torch
from torch import Tensor

from lnres.data import Batches
from lnres.record import PLANE_LEVELS

SIDE, POINTS = 32, 150


class Plane:
    """The first member's decision regions, on a grid a little larger than its training points.

    One byte a cell: ``PLANE_LEVELS`` steps of certainty, from a draw between the classes to no doubt, for
    each class in turn.
    """

    def __init__(self, batches: Batches):
        x = batches.x[0].cpu()
        low, high = x.min(0).values, x.max(0).values
        margin = (high - low) / 10
        ends = zip((low - margin).tolist(), (high + margin).tolist(), strict=True)
        self.axes = [torch.linspace(start, end, SIDE) for start, end in ends]
        grid = torch.cartesian_prod(*self.axes).to(batches.x.device)
        self.grid = grid.expand(len(batches.x), -1, -1)  # (S, SIDE², 2): all members run, the first is shown
        self.points, self.labels = x[:POINTS], batches.y[0, :POINTS].cpu()

    def still(self) -> dict[str, Tensor]:
        """What does not change while the network learns: (SIDE,) axes, points and their classes."""
        return {
            "plane_x": self.axes[0], "plane_y": self.axes[1],
            "point_x": self.points[:, 0], "point_y": self.points[:, 1],
            "point_class": self.labels.to(torch.uint8),
        }  # fmt: skip

    def regions(self, outputs: Tensor) -> Tensor:
        """Outputs (S, SIDE², classes) -> bytes (SIDE, SIDE), x by y."""
        share, winner = outputs[0].softmax(-1).nan_to_num().max(-1)
        draw = 1 / outputs.shape[-1]
        level = ((share - draw) / (1 - draw) * PLANE_LEVELS).clamp(0, PLANE_LEVELS - 1).floor()
        return (winner * PLANE_LEVELS + level).to(torch.uint8).view(SIDE, SIDE)

"""The training images as they stay on the device for a whole run, and batches of them by one gather: of every image in
a batch its own crop, mirrored or not."""

import torch
import torch.nn.functional as F
from torch import Tensor


class Crops:
    """Images with borders of zeros around them, padded once, from which crops of their own size are taken."""

    def __init__(self, images: Tensor, borders: tuple[int, int]) -> None:
        """Images N×C×H×W; borders (rows, columns): a crop can begin at 0 … 2 × border of them."""
        above, beside = borders
        _, self.channels, self.height, self.width = images.shape
        padded = F.pad(images, (beside, beside, above, above)).contiguous() if any(borders) else images.contiguous()
        self._rows, self._columns = padded.shape[2:]
        flat = padded.flatten()
        # Every place of every image begins a row of a crop: rows that overlap, and no copy of any.
        self._pieces = flat.as_strided((len(flat) - self.width + 1, self.width), (1, 1))
        planes = torch.arange(self.channels, device=images.device)[:, None] * (self._rows * self._columns)
        self._within = (planes + torch.arange(self.height, device=images.device) * self._columns).flatten()

    def take(self, numbers: Tensor, offsets: Tensor, mirrored: Tensor | None) -> Tensor:
        """Of the images with these numbers, the crops from these offsets (2×B) on, mirrored where it says so."""
        size = self._rows * self._columns
        begin = numbers * (self.channels * size) + offsets[0] * self._columns + offsets[1]
        crops = self._pieces.index_select(0, (begin[:, None] + self._within).flatten())
        crops = crops.view(len(numbers), self.channels, self.height, self.width)
        return crops if mirrored is None else torch.where(mirrored.view(-1, 1, 1, 1), crops.flip(3), crops)

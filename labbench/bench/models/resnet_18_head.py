"""torchvision's ResNet-18 with a small head of two linear layers, as it is taken to other data."""

from pathlib import Path
from pickle import UnpicklingError
from typing import Annotated

import torch
from msgspec import Meta
from torch import Tensor, nn

from labbench.bench.download import fetch
from labbench.bench.errors import BenchError, breathe

HEAD = 100
ADDRESS = "https://download.pytorch.org/models/resnet18-f37072fd.pth"
SIZE, SHA256 = 46_830_571, "f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec"
"""Of torchvision's `ResNet18_Weights.IMAGENET1K_V1`."""


def build(
    shape: tuple[int, int, int],
    classes: int,
    *,
    pretrained: Annotated[bool, Meta(description="trunk with torchvision's ImageNet weights: 45 MB, once")] = False,
) -> nn.Module:
    """ResNet-18 with its ImageNet stem and a head of 100 neurons

    He et al., Deep residual learning, CVPR 2016, table 1; torchvision's trunk.
    A 7×7 stem of stride 2, pooling, four stages; then linear 512→100, ReLU, 100→classes. At 32×32 the last stage sees
    single pixels: 6,946,816 weights there only ever meet padding and never get a gradient. 11,228,822 parameters on
    3×32×32 and 10 classes. `pretrained` needs images of 3 channels, or of 1, for which the stem's three are summed.
    """
    from torchvision.models import resnet18  # costs a second, so only when asked

    channels = shape[0]
    model = resnet18()
    if channels != 3:
        model.conv1 = nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False)
        nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")
    if pretrained:
        model.load_state_dict(_published(channels))
    model.fc = nn.Sequential(nn.Linear(512, HEAD), nn.ReLU(), nn.Linear(HEAD, classes))
    for module in model.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False  # or it overwrites what a hook behind the norm has kept
    return model


def _published(channels: int) -> dict[str, Tensor]:
    """torchvision's weights, fitted to so many channels; downloaded to where torch keeps them, if none are there."""
    if channels not in (1, 3):
        raise BenchError(f"pretrained weights are for images of 3 channels or 1, not {channels}; open it without them")
    path = Path(torch.hub.get_dir()) / "checkpoints" / ADDRESS.rpartition("/")[2]
    instead = f"open it without pretrained, or put {ADDRESS} into {path.parent}"
    if not path.exists():
        try:
            fetch([ADDRESS], path, SIZE, SHA256, _stopped, lambda count: None)
        except OSError as error:
            raise BenchError(f"torchvision's weights cannot be downloaded ({error}); {instead}") from error
    try:
        tensors: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, UnpicklingError) as error:
        raise BenchError(f"{path} is not the file of torchvision's weights: remove it, then {instead}") from error
    stem = tensors["conv1.weight"]
    return {**tensors, "conv1.weight": stem.sum(1, keepdim=True) if channels == 1 else stem}


def _stopped() -> bool:
    breathe()
    return False

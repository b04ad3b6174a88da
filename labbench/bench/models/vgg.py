"""Plain stacks of 3×3 convolutions with one linear layer, as the VGG networks are used at 32×32."""

from collections import OrderedDict
from typing import Annotated, Literal

from msgspec import Meta
from torch import nn

from labbench.bench.models.parts import check_size, he_normal

WIDTHS = (64, 128, 256, 512, 512)
Depth = Literal[11, 13, 16, 19]
CONVOLUTIONS: dict[Depth, tuple[int, ...]] = {
    11: (1, 1, 2, 2, 2),
    13: (2, 2, 2, 2, 2),
    16: (2, 2, 3, 3, 3),
    19: (2, 2, 4, 4, 4),
}
"""How many of each width, by depth: configurations A, B, D and E."""


def build(
    shape: tuple[int, int, int],
    classes: int,
    *,
    depth: Annotated[Depth, Meta(description="layers: configurations A, B, D and E")] = 16,
    batch_norm: Annotated[bool, Meta(description="a batch norm behind each convolution")] = True,
) -> nn.Module:
    """VGG: 3×3 convolutions of 64 to 512 filters and one linear layer

    Simonyan and Zisserman, Very deep convolutional networks, ICLR 2015, table 1.
    Five poolings halve the image, so it must have 32×32 pixels; one linear layer takes the place of the paper's three.
    On 3×32×32 and 10 classes depth 16 has 14,728,266 parameters with batch norm, depth 19 has 20,040,522.
    """
    check_size(f"vgg-{depth}", shape, 32, 32)
    features, before = nn.Sequential(), shape[0]
    for width, count in zip(WIDTHS, CONVOLUTIONS[depth], strict=True):
        for _ in range(count):
            features.append(nn.Conv2d(before, width, 3, padding=1))
            if batch_norm:
                features.append(nn.BatchNorm2d(width))
            features.append(nn.ReLU())
            before = width
        features.append(nn.MaxPool2d(2))
    model = nn.Sequential(
        OrderedDict(
            features=features,
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            classifier=nn.Linear(before, classes),
        )
    )
    he_normal(model)
    return model

"""What several families share: checks of depths, sizes and numbers, stages of blocks, shortcut A, He's weights."""

from collections.abc import Callable, Sequence
from typing import Annotated, Literal, TypeAlias

import torch.nn.functional as F
from msgspec import Meta
from torch import Tensor, nn

from labbench.bench.errors import BenchError

Shortcut = Literal["A", "B"]
ShortcutOption: TypeAlias = Annotated[
    Shortcut, Meta(description="where shapes change: A pads with zeros, B is a 1×1 conv")
]
DepthOption: TypeAlias = Annotated[
    int, Meta(ge=8, le=1202, description="layers: 6n + 2 of basic blocks, 9n + 2 of bottlenecks")
]
BlockOption: TypeAlias = Annotated[
    Literal["basic", "bottleneck"], Meta(description="two 3×3 convs, or 1×1, 3×3, 1×1 with four times the outputs")
]
Block: TypeAlias = Callable[[int, int, int], nn.Module]
"""(channels in, channels out, stride) → a residual block."""


def blocks_per_stage(family: str, depth: int, each: int, rest: int) -> int:
    """The n of depth = each·n + rest. Raises `BenchError` with the nearest depths that are right."""
    n, over = divmod(depth - rest, each)
    if n >= 1 and not over:
        return n
    below, above = each * max(n, 1) + rest, each * (max(n, 1) + 1) + rest
    raise BenchError(f"{family}: depth must be {each}n + {rest}, such as {below} or {above}, not {depth}")


def whole_numbers(name: str, text: str, low: int, high: int, example: str) -> tuple[int, int, int]:
    """Three whole numbers from a text such as "24 48 72". Raises `BenchError` for anything else."""
    words = text.replace(",", " ").split()
    if len(words) == 3 and all(word.isdecimal() and low <= int(word) <= high for word in words):
        first, second, third = (int(word) for word in words)
        return first, second, third
    raise BenchError(f'{name} must be three whole numbers from {low} to {high}, such as "{example}", not "{text}"')


def check_size(family: str, shape: tuple[int, int, int], height: int, width: int) -> None:
    """Raise `BenchError` where images are so small that nothing is left of them inside the network."""
    if shape[1] < height or shape[2] < width:
        raise BenchError(
            f"{family} shrinks images until less than a pixel is left of {shape[1]}×{shape[2]}: "
            f"it takes {height}×{width} and larger"
        )


def stages(before: int, widths: Sequence[int], blocks: Sequence[int], block: Block) -> dict[str, nn.Sequential]:
    """layer1, layer2, …: so many blocks of each width; from the second stage on the first block halves the image."""
    made = {}
    for number, (width, count) in enumerate(zip(widths, blocks, strict=True), 1):
        stage = nn.Sequential()
        for place in range(count):
            stage.append(block(before, width, 2 if number > 1 and place == 0 else 1))
            before = width
        made[f"layer{number}"] = stage
    return made


class ZeroPad(nn.Module):
    """Shortcut A: every second pixel, new channels zero, half of them before and half after the old ones."""

    def __init__(self, stride: int, channels: int) -> None:
        super().__init__()
        self.stride, self.channels = stride, channels

    def forward(self, x: Tensor) -> Tensor:
        """N×C×H×W to N×(C + channels)×H/stride×W/stride."""
        before = self.channels // 2
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, before, self.channels - before))


def he_normal(model: nn.Module, mode: Literal["fan_in", "fan_out"] = "fan_out") -> None:
    """Convolutions as in He et al., Delving deep into rectifiers, ICCV 2015, section 2.2; biases zero."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode=mode, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)

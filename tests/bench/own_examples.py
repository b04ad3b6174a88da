"""Code of a user's, as text: what labbench finds in a file that it did not write."""

GOOD = '''
"""A file of a student's."""
import torch
from torch import nn
from torch.nn import functional as F

print("imported")


def plain(in_channels, num_classes, width=4):
    return nn.Sequential(
        nn.Conv2d(in_channels, width, 3, padding=1),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Conv2d(width, 2 * width, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(2 * width, num_classes),
    )


def lazy(classes):
    return nn.Sequential(nn.LazyConv2d(4, 3), nn.Flatten(), nn.LazyLinear(classes))


def normed(classes):
    norm = nn.utils.parametrizations.weight_norm
    return nn.Sequential(nn.Flatten(), norm(nn.Linear(784, 8)), nn.ReLU(), nn.Linear(8, classes))


class Transformer(nn.Module):
    def __init__(self, shape, classes, dim=16):
        super().__init__()
        self.patch = nn.Conv2d(shape[0], dim, 7, 7)
        self.token = nn.Parameter(torch.zeros(1, 1, dim))
        count = (shape[1] // 7) * (shape[2] // 7) + 1
        self.place = nn.Parameter(torch.randn(1, count, dim), requires_grad=False)
        self.block = nn.TransformerEncoderLayer(dim, 2, 32, dropout=0.0, batch_first=True)
        self.norm = nn.LayerNorm(dim, elementwise_affine=False)
        self.head = nn.Linear(dim, classes)

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.place
        return self.head(self.norm(self.block(x)[:, 0]))


class Tied(nn.Module):
    def __init__(self, channels, classes):
        super().__init__()
        self.stem = nn.Conv2d(channels, 8, 3, padding=1)
        self.one = nn.Conv2d(8, 8, 3, padding=1)
        self.two = nn.Conv2d(8, 8, 3, padding=1)
        self.two.weight = self.one.weight
        self.unused = nn.Linear(3, 3)
        self.scale = nn.Parameter(torch.tensor(1.0))
        self.fc = nn.Linear(8, classes)

    def forward(self, x):
        x = F.relu(self.one(F.relu(self.stem(x))))
        return self.fc(F.relu(self.two(x)).mean((2, 3)) * self.scale)


class Twice(nn.Module):
    def __init__(self, channels, classes):
        super().__init__()
        self.stem = nn.Conv2d(channels, 8, 3, padding=1)
        self.again = nn.Conv2d(8, 8, 3, padding=1)
        self.fc = nn.Linear(8, classes)

    def forward(self, x):
        x = F.relu(self.stem(x))
        for _ in range(2):
            x = F.relu(self.again(x))
        return self.fc(x.mean((2, 3)))


class Dynamic(Twice):
    def forward(self, x):
        x = F.relu(self.stem(x))
        if x.mean() > 0.2:
            x = F.relu(self.again(x))
        return self.fc(x.mean((2, 3)))
'''

BAD = """
import sys
import torch
from torch import nn


class Answering(nn.Module):
    def __init__(self, answer):
        super().__init__()
        self.fc = nn.Linear(784, 10)
        self.answer = answer

    def forward(self, x):
        return self.answer(self.fc, x)


def leaves(): sys.exit(3)
def raises(): raise ValueError("depth must be even\\nsecond line")
def asks(): return nn.Linear(int(input()), 3)
def nothing(): return None
def needs(width): return None
def named(): return Answering(lambda fc, x: {"out": fc(x.flatten(1))})
def in_place(): return Answering(lambda fc, x: fc(x.sub_(1).flatten(1)))
def narrow(): return nn.Sequential(nn.Flatten(), nn.Linear(784, 7))
def gradless(): return Answering(lambda fc, x: fc(x.flatten(1)).detach())
def ends(): return Answering(lambda fc, x: sys.exit())
def two_modes(): return Answering(lambda fc, x: (fc(x.flatten(1)),) * 2 if fc.training else fc(x.flatten(1)))
def no_layer(): return Bare()
def double(): torch.set_default_dtype(torch.float64); return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))


class Bare(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.randn(784, 10))

    def forward(self, x):
        return x.flatten(1) @ self.w


instance = nn.Flatten()
number = 3
"""

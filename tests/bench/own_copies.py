"""Code of a user's, as text, whose models know themselves from outside: some can be copied, some cannot."""

KNOWING = """
import copy
import functools
import random
import threading

import torch
from torch import nn

LAST = {}
GAIN = nn.Parameter(torch.ones(1))


def body(classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 16), nn.ReLU(), nn.Linear(16, classes))


class Own(nn.Module):
    def __init__(self, classes, own=True):
        super().__init__()
        self.body = body(classes)
        if own:
            self.forward = self.fused

    def forward(self, x):
        return self.fused(x) * 0 + torch.arange(10.0) if "forward" in vars(self) else self.fused(x)

    def fused(self, x):
        return self.body(x)


class Partial(Own):
    def __init__(self, classes):
        super().__init__(classes, own=False)
        self.forward = functools.partial(Own.fused, self)


class Kept(nn.Module):
    def __init__(self, classes, hook):
        super().__init__()
        self.a, self.b = nn.Linear(784, 16), nn.Linear(16, classes)
        self.kept = {}
        self.a.register_forward_hook(hook(self))

    def forward(self, x):
        self.a(x.flatten(1))
        return self.b(self.seen().relu())

    def seen(self):
        return self.kept["a"]


class Last(Kept):
    def seen(self):
        return LAST["a"]


def note(kept, module, inputs, output):
    kept["a"] = output


def tapped(classes): return Kept(classes, lambda net: lambda m, i, o: net.kept.update(a=o))
def partial_tap(classes): return Kept(classes, lambda net: functools.partial(note, net.kept))
def global_tap(classes): return Last(classes, lambda net: lambda m, i, o: LAST.update(a=o))


def scaled(classes):
    net = body(classes)
    net[1].register_forward_hook(lambda m, i, o: 1.5 * o)
    return net


def gain(classes):
    net = body(classes)
    net.gain = nn.Parameter(torch.ones(1))
    scale = net.gain
    net.register_forward_hook(lambda m, i, o: o * scale)
    return net


def gain_in_training(classes):
    net = body(classes)
    net.gain = nn.Parameter(torch.ones(1))
    scale = net.gain
    net.register_forward_hook(lambda m, i, o: o * scale if m.training else o)
    return net


def wrapped(classes):
    net = body(classes)
    old = net.forward
    net.forward = lambda x: 2 * old(x)
    return net


def buffered(classes):
    net = nn.Sequential(nn.Flatten(), nn.Linear(784, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, classes))
    norm = net[2]
    net[1].register_forward_hook(lambda m, i, o: o - norm.running_mean)
    return net


def global_gain(classes):
    net = body(classes)
    net.gain = GAIN
    net.register_forward_hook(lambda m, i, o: o * GAIN)
    return net


def gradient_hook(classes):
    net = body(classes)
    net[1].weight.register_hook(lambda g: g * 0)
    return net


def locked(classes):
    net = body(classes)
    net.lock = threading.Lock()
    return net


class Counting(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.body, self.calls = body(classes), 0

    def forward(self, x):
        self.calls += 1
        return self.body(x) * (1 + 0.01 * self.calls)


class Depth(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.body, self.more = body(classes), nn.Linear(classes, classes)

    def forward(self, x):
        x = self.body(x)
        return x + self.more(x) if not self.training or random.random() < 0.5 else x


class Features(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.body, self.features = body(classes), None

    def forward(self, x):
        self.features = self.body[:2](x)
        return self.body[2:](self.features)


class NoReturn(Own):
    def train(self, mode=True):
        super().train(mode)


class Random(Own):
    def forward(self, x):
        return nn.functional.dropout(self.body(x))


def drawn(classes): return Random(classes, own=False)
def compiled(classes): return torch.compile(body(classes))


def compiled_inside(classes):
    net = nn.Sequential(body(classes))
    net[0].compile()
    return net


def traced(classes): return torch.jit.trace(body(classes), torch.zeros(2, 1, 28, 28))
def half(classes): return body(classes).half()
def brain(classes): return Cast(classes).bfloat16()


class Cast(Own):
    def __init__(self, classes):
        super().__init__(classes, own=False)

    def forward(self, x):
        return self.body(x.to(self.body[1].weight.dtype)).float()


class Stubborn(Cast):
    def forward(self, x):
        return self.body(x.bfloat16()).float()


def stubborn(classes): return Stubborn(classes).bfloat16()


class Whole(Own):
    def __init__(self, classes):
        super().__init__(classes, own=False)
        self.code = nn.Parameter(torch.arange(4), requires_grad=False)


class Complex(Own):
    def __init__(self, classes):
        super().__init__(classes, own=False)
        self.turn = nn.Parameter(torch.randn(classes, dtype=torch.cfloat))

    def forward(self, x):
        return (self.body(x) * self.turn).abs()
"""

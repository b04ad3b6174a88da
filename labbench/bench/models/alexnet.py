"""AlexNet cut down to 32×32: its five convolutions and one linear layer."""

from collections import OrderedDict

from torch import nn

from labbench.bench.models.parts import check_size, he_normal


def build(shape: tuple[int, int, int], classes: int) -> nn.Module:
    """AlexNet for CIFAR: five convolutions and one linear layer, no batch norm

    Krizhevsky et al., ImageNet classification with deep networks, NIPS 2012.
    In the form for 32×32: an 11×11 convolution of stride 4 and padding 5, three poolings, one linear layer in place of
    three, no dropout. 2,472,266 parameters on 3×32×32 and 10 classes.
    """
    check_size("alexnet", shape, 29, 29)
    features = nn.Sequential(
        nn.Conv2d(shape[0], 64, 11, stride=4, padding=5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(64, 192, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(192, 384, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
    )
    model = nn.Sequential(
        OrderedDict(
            features=features,
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            classifier=nn.Linear(256, classes),
        )
    )
    he_normal(model)
    return model

"""LeNet-5 in the variant that Caffe made common."""

from collections import OrderedDict

from torch import nn

from labbench.bench.models.parts import check_size


def build(shape: tuple[int, int, int], classes: int) -> nn.Module:
    """LeNet-5: two 5×5 convolutions (20, 50) and two linear layers

    LeCun et al., Gradient-based learning applied to document recognition, 1998.
    In Caffe's variant with ReLU and 500 hidden neurons. 431,080 parameters on 1×28×28 and 10 classes; 99.2 % on MNIST
    (Yang et al., DeepHoyer, ICLR 2020).
    """
    check_size("lenet-5", shape, 16, 16)
    channels, height, width = shape
    maps = ((height - 4) // 2 - 4) // 2 * (((width - 4) // 2 - 4) // 2)
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(channels, 20, 5),
            relu1=nn.ReLU(),
            pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(20, 50, 5),
            relu2=nn.ReLU(),
            pool2=nn.MaxPool2d(2),
            flatten=nn.Flatten(),
            fc1=nn.Linear(50 * maps, 500),
            relu3=nn.ReLU(),
            fc2=nn.Linear(500, classes),
        )
    )

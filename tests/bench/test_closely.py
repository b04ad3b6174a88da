"""A close look, against references that are slow or in closed form: paths, gradients, distinct values, bytes."""

import copy
import gzip

import pytest
import torch
import torch.nn.functional as F
import torchvision
from bench_examples import CPU, Opened, Small, do, doing, noise, shaken, state_of, untouched, with_weights
from torch import Tensor, nn

from labbench.bench.errors import BenchError, Stopped
from labbench.bench.measuring.connected_weights import connected
from labbench.bench.measuring.gradient_free import idle
from labbench.bench.models.resnet import ResNet
from labbench.bench.operations.measure import look_closely, stored
from labbench.bench.states.state import State
from labbench.bench.tools import Tools
from labbench.session.operations import Load, Measure, Prune


def count(masks: dict[str, Tensor]) -> dict[str, int]:
    return {name: int(mask.sum()) for name, mask in masks.items()}


def weights_of(state: State) -> int:
    return sum(layer.weights for layer in state.layers if layer.prunable)


def imagenet_stem() -> State:
    """ResNet-18 as it is for large pictures, with a head of two linear layers, on pictures of 32×32."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = torchvision.models.resnet18()
        model.fc = nn.Sequential(nn.Linear(512, 100), nn.ReLU(), nn.Linear(100, 10))
    return state_of(model, noise((3, 32, 32), images=256))


# Paths


class Scale(nn.Module):
    """What a batch norm is to a path."""

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        self.open = (norm.weight.detach() != 0).double().view(1, -1, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.open


def matters(state: State) -> dict[str, Tensor]:
    """The weights whose loss changes the answer where all numbers are positive: each is taken away once."""
    model = copy.deepcopy(state.model).double()
    for owner in list(model.modules()):
        for name, child in list(owner.named_children()):
            if isinstance(child, nn.BatchNorm2d):
                setattr(owner, name, Scale(child))
            if isinstance(child, nn.MaxPool2d):
                setattr(owner, name, nn.AvgPool2d(child.kernel_size, child.stride))
    generator = torch.Generator().manual_seed(0)
    found = {}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            size = (1 + torch.rand(parameter.shape, generator=generator, dtype=torch.float64)) / 50  # no gate is full
            parameter.copy_(torch.where(parameter != 0, size, 0.0) if not name.endswith("bias") else 0.0)
        x = torch.ones(1, *state.data.shape, dtype=torch.float64)
        whole = model(x)
        for layer in state.layers:
            if layer.prunable:
                flat = model.get_parameter(f"{layer.name}.weight").view(-1)
                changed = torch.zeros(len(flat), dtype=torch.bool)
                for place in flat.nonzero().flatten().tolist():
                    kept = flat[place].clone()
                    flat[place] = 0
                    changed[place] = bool((model(x) != whole).any())
                    flat[place] = kept
                found[layer.name] = changed.view_as(state.weight(layer.name))
    return found


class Mixed(nn.Module):
    """Groups, a concatenation, a pool with a maximum, a product, a difference and a layer that is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3, padding=1)
        self.grouped = nn.Conv2d(4, 4, 3, padding=1, groups=2)
        self.norm = nn.BatchNorm2d(4)
        self.pool = nn.MaxPool2d(2)
        self.gate = nn.Conv2d(4, 4, 1)
        self.scale = nn.Parameter(torch.tensor([1.0, 0.0, -2.0, 1.0]).view(4, 1, 1))
        self.fc = nn.Linear(8 * 4, 3)
        self.unused = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        y = F.gelu(self.norm(self.grouped(self.grouped(x))))
        z = torch.cat([self.pool(x - y), self.pool(y)], dim=1)
        a, b = z.chunk(2, dim=1)
        gated = (a - 0.5) * torch.sigmoid(self.gate(b))
        return self.fc(torch.cat([self.scale * gated, b], dim=1).flatten(1))


@pytest.mark.parametrize("shortcut", ["A", "B", "mixed"])
@pytest.mark.parametrize("amount", [0.0, 0.7, 0.9])
def test_a_weight_is_on_a_path_if_and_only_if_taking_it_away_can_matter(shortcut: str, amount: float) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        shape = (2, 4, 4) if shortcut == "mixed" else (1, 6, 6)
        model = Mixed() if shortcut == "mixed" else ResNet(1, 5, widths=(3, 5), blocks=(1, 1), shortcut=shortcut)  # type: ignore[arg-type]
    state = shaken(state_of(model, noise(shape, classes=3 if shortcut == "mixed" else 5)))
    with torch.no_grad():
        state.module("norm" if shortcut == "mixed" else "bn1").weight[1] = 0  # type: ignore[index]
    if amount:
        state = do(state, Prune(method="random", amount=amount))
    with untouched(state):
        found = connected(state)
    slow = matters(state)
    for name in slow:
        assert torch.equal(found[name], slow[name]), name
    if amount > 0.8:
        alive = sum(int(state.weight(name).count_nonzero()) for name in slow)
        assert sum(count(found).values()) < alive


@pytest.mark.parametrize("model", ["lenet-5", "lenet-300-100", "resnet-20"])
def test_every_weight_of_a_dense_model_is_on_a_path(opened: Opened, model: str) -> None:
    state = opened(model)
    assert sum(count(connected(state)).values()) == weights_of(state)


def test_what_follows_a_zero_filter_is_cut_off_whatever_comes_out_of_its_bias(opened: Opened) -> None:
    state = shaken(opened("lenet-300-100"))
    first, second = (state.weight(name).clone() for name in ("fc1", "fc2"))
    first[:40] = 0  # nothing comes in
    second[:, 50:53] = 0  # nothing goes out
    state = with_weights(state, {"fc1": first, "fc2": second})
    assert count(connected(state)) == {
        "fc1": (300 - 40 - 3) * 784, "fc2": 100 * (300 - 40 - 3), "fc3": 100 * 10,
    }  # fmt: skip


def test_numbers_of_paths_overflow_and_truths_do_not() -> None:
    layers = [nn.Linear(64, 64) for _ in range(50)]
    state = state_of(nn.Sequential(nn.Flatten(), *layers), noise((1, 8, 8), classes=64))
    paths = torch.ones(1, 64)
    for _ in layers:
        paths = paths @ torch.ones(64, 64)
    assert not paths.isfinite().all()  # what the sum over paths would have given
    assert sum(count(connected(state)).values()) == 50 * 64 * 64


def test_weights_that_are_no_numbers_are_weights(small: Small) -> None:
    state = with_weights(small(), {"conv1": torch.full((8, 1, 3, 3), torch.nan)})
    assert sum(count(connected(state)).values()) == weights_of(state)


def test_the_stem_for_large_pictures_leaves_62_percent_of_resnet_18_on_padding_at_32x32() -> None:
    state = imagenet_stem()
    on_none = weights_of(state) - sum(count(connected(state)).values())
    without = idle(state, batches=4, seed=0)
    assert (weights_of(state), on_none) == (11_219_112, 6_946_816)
    assert f"{on_none / weights_of(state):.2%}" == "61.92%"
    assert sum(count(without).values()) == on_none  # and just these never get a gradient
    assert count(without)["layer4.1.conv2"] == 512 * 512 * 8  # of nine places one sees the picture


# Gradients


def test_places_that_see_only_padding_get_no_gradient() -> None:
    model = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.Flatten(), nn.Linear(3, 4))
    state = state_of(model, noise((2, 1, 1), classes=4))
    with untouched(state):
        found = idle(state, batches=3, seed=0)
    expected = torch.ones(3, 2, 3, 3, dtype=torch.bool)
    expected[:, :, 1, 1] = False
    assert torch.equal(found["0"], expected)
    assert not found["2"].any()


def test_a_model_that_knows_all_answers_still_has_gradients_where_labels_are_random() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 4, bias=False))
    data = noise((1, 2, 2), classes=4)
    x, y = data.on(CPU)["train"]
    x.copy_(torch.nn.functional.one_hot(y, 4).view(-1, 1, 2, 2) * 255)  # each class lights its own pixel
    with torch.no_grad():
        model[1].weight.copy_(torch.eye(4) * 1e6)
    state = state_of(model, data)
    loss = F.cross_entropy(state.model(data.normalized(x)), y)
    assert not torch.autograd.grad(loss, state.model.get_parameter("1.weight"))[0].any()  # the trap
    assert int(idle(state, batches=2, seed=0)["1"].sum()) < 16


def test_dead_and_unused_layers_get_no_gradient_and_masks_and_frozen_ones_do() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1, self.fc2, self.unused = nn.Linear(4, 6), nn.Linear(6, 3), nn.Linear(5, 5)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc2(F.relu(self.fc1(x.flatten(1))))

    net = Net()
    with torch.no_grad():
        net.fc1.bias[2] = -1e9  # never open
    state = do(state_of(net, noise((1, 2, 2), classes=3)), Prune(layers=("fc2",), amount=0.5))
    found = idle(state, batches=4, seed=0)
    assert found["unused"].all()
    assert found["fc1"][2].all() and found["fc2"][:, 2].all()
    open_ones = [unit for unit in range(6) if unit != 2]
    assert not found["fc2"][:, open_ones].all()  # masks do not count


def test_looking_at_gradients_is_the_same_for_the_same_seed_with_dropout_too() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 30), nn.ReLU(), nn.Dropout(0.9), nn.Linear(30, 3))
    state = state_of(model, noise((1, 4, 4), classes=3))
    first, again = (idle(state, batches=2, seed=4) for _ in range(2))
    assert all(torch.equal(first[name], again[name]) for name in first)


# Bytes and the operation


def test_stored_bytes_are_those_of_gzip(small: Small) -> None:
    for state in (small(), do(small(), Prune(amount=0.9))):
        raw = b"".join(tensor.numpy().tobytes() for tensor in state.model.state_dict().values())
        assert stored(state.model) == len(gzip.compress(raw, 6))
    assert stored(do(small(), Prune(amount=0.9)).model) < 0.5 * stored(small().model)


def test_a_close_look_counts_and_changes_nothing(opened: Opened, tools: Tools) -> None:
    state = do(opened("lenet-5"), Prune(amount=0.9))
    with untouched(state):
        applied = doing(state, Measure(batches=2), tools)
    found = applied.measures
    assert applied.state is state and found
    assert [layer.name for layer in found.layers] == ["conv1", "conv2", "fc1", "fc2"]
    for layer in found.layers:
        weight = state.weight(layer.name)
        assert layer.distinct == len(set(weight.flatten().tolist()))
        assert layer.weights == weight.numel()
        assert 0 < layer.connected <= int(weight.count_nonzero())
    assert found.connected < sum(int(state.weight(layer.name).count_nonzero()) for layer in found.layers)
    assert found.stored < 0.4 * found.stored_loaded
    assert found.stored_loaded == stored(opened("lenet-5").model)
    assert doing(state, Measure(batches=2), tools).measures == found


def test_a_loaded_model_that_is_no_longer_there_has_no_bytes_and_a_look_can_be_stopped(small: Small) -> None:
    def nowhere(*_: object) -> object:
        raise BenchError("no such file")

    state = small()
    assert isinstance(state.load, Load)
    found = look_closely(Measure(batches=2), state, nowhere, lambda _: None, lambda: False)  # type: ignore[arg-type]
    assert found.stored_loaded is None
    with pytest.raises(Stopped):
        look_closely(Measure(batches=2), state, nowhere, lambda _: None, lambda: True)  # type: ignore[arg-type]

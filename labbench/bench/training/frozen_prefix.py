"""The frozen beginning of a network apart from the rest: without gradients, its norms folded into its convolutions.
Found in the graph that torch.fx traces; a network that cannot be traced, or not exactly, trains whole."""

import operator
from collections.abc import Callable

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from labbench.bench.states.state import BATCH_NORM
from labbench.bench.training.forwards import has_own_forward

TOLERANCE = 1e-4  # of the answers of both parts against those of the whole, relative, in fp32
PROBED_IMAGES = 2
BATCH = 256  # images whose features are taken at once, whatever the batches of the run are
RANDOM = ("dropout", "rand", "bernoulli", "multinomial", "rrelu", "normal_")
"""Names of what draws numbers, in part: nothing of that is done once for all."""


class Parted(nn.Module):
    """A frozen beginning, without gradients, and the rest, which trains."""

    def __init__(self, prefix: nn.Module, rest: nn.Module) -> None:
        super().__init__()
        self.prefix, self.rest = prefix, rest

    def forward(self, x: Tensor) -> Tensor:
        """What the whole network gives."""
        with torch.no_grad():
            features = self.prefix(x)
        out: Tensor = self.rest(features)
        return out


def parted(model: nn.Module, example: Tensor) -> Parted | None:
    """The network in two parts that share its parameters; None where nothing that computes is frozen at its beginning.

    `model` is as it trains: frozen parameters without gradient, frozen norms in eval mode. `example` is a batch.
    Not covered: a network whose forward pass depends on values, and a cut through which more than one tensor goes; of a
    residual block with its first layer frozen alone, that layer is computed with the rest.
    """
    if has_own_forward(model) or model._forward_hooks or model._forward_pre_hooks:
        return None  # a graph is of the forward of its class
    try:
        graph = fx.Tracer().trace(model)
    except Exception:  # noqa: BLE001  # whatever tracing stumbles over in a foreign model
        return None
    nodes = list(graph.nodes)
    end = _end(model, nodes)
    if not any(_weighs(model, node) for node in nodes[: end + 1]):
        return None
    first, rest = fx.Graph(), fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    for node in nodes[: end + 1]:
        copies[node] = first.node_copy(node, copies.__getitem__)
    first.output(copies[nodes[end]])
    copies = {nodes[end]: rest.placeholder("features")}
    for node in nodes[end + 1 :]:
        copies[node] = rest.node_copy(node, copies.__getitem__)
    whole = Parted(_folded(fx.GraphModule(model, first)), fx.GraphModule(model, rest))
    return whole if _agree(model, whole, example[:PROBED_IMAGES]) else None


def _end(model: nn.Module, nodes: list[fx.Node]) -> int:
    """The last node of the beginning: all up to it is frozen, and only its own value is used behind it; -1 for none."""
    place = {node: number for number, node in enumerate(nodes)}
    furthest, best = -1, -1
    for number, node in enumerate(nodes):
        if not _still(model, node):
            break
        if furthest <= number and node.op != "placeholder":
            best = number
        furthest = max(furthest, *(place[user] for user in node.users), -1)
    return best


def _still(model: nn.Module, node: fx.Node) -> bool:
    """Whether a node always gives the same for the same input, and nothing of it trains."""
    match node.op:
        case "placeholder":
            return True
        case "call_module":
            module = model.get_submodule(str(node.target))
            moves = module.training and any(True for _ in module.buffers())
            return not (moves or any(p.requires_grad for p in module.parameters()) or _draws(type(module).__name__))
        case "get_attr":
            owner: object = operator.attrgetter(str(node.target))(model)
            return not (isinstance(owner, Tensor) and owner.requires_grad)
        case "call_function" | "call_method":
            return not _draws(getattr(node.target, "__name__", str(node.target)))
    return False


def _draws(name: str) -> bool:
    return any(word in name.lower() for word in RANDOM)


def _weighs(model: nn.Module, node: fx.Node) -> bool:
    if node.op != "call_module":
        return False
    return any(True for _ in model.get_submodule(str(node.target)).parameters())


def _folded(prefix: fx.GraphModule) -> nn.Module:
    """The same with each batch norm that alone reads a convolution folded into a copy of it."""
    modules: dict[str, nn.Module] = dict(prefix.named_modules())
    for node in list(prefix.graph.nodes):
        norm = modules.get(str(node.target)) if node.op == "call_module" else None
        if not isinstance(norm, BATCH_NORM) or norm.running_mean is None:
            continue
        before = node.args[0]
        conv = modules.get(str(before.target)) if before.op == "call_module" and len(before.users) == 1 else None
        calls = [other for other in prefix.graph.nodes if other.op == "call_module" and other.target == before.target]
        if isinstance(conv, nn.Conv1d | nn.Conv2d | nn.Conv3d) and len(calls) == 1:
            name = f"folded_{before.name}"
            prefix.add_submodule(name, fuse_conv_bn_eval(conv.eval(), norm).requires_grad_(False))
            before.target = name
            node.replace_all_uses_with(before)
            prefix.graph.erase_node(node)
    prefix.delete_all_unused_submodules()
    prefix.recompile()
    return prefix


def _agree(model: nn.Module, whole: nn.Module, images: Tensor) -> bool:
    """Whether both give the same answers in eval mode. Leaves modes as they were."""
    modes = {module: module.training for module in (*model.modules(), *whole.modules())}
    model.eval()
    whole.eval()
    try:
        with torch.no_grad():
            expected, answer = model(images), whole(images)
    finally:
        for module, mode in modes.items():
            module.training = mode
    return bool((answer - expected).abs().max() <= TOLERANCE * expected.abs().max().clamp_min(1e-30))


def features_of(prefix: nn.Module, images: Tensor, shown: Callable[[Tensor], Tensor], limit: int) -> Tensor | None:
    """What the beginning gives for every image, always in the same batches; None if it is more than `limit` bytes.

    `shown` turns images into what the network takes.
    """
    features: Tensor | None = None
    for start in range(0, len(images), BATCH):
        with torch.no_grad():
            part = prefix(shown(images[start : start + BATCH]))
        if features is None:
            if part[0].numel() * part.element_size() * len(images) > limit:
                return None
            features = part.new_empty((len(images), *part.shape[1:]))
            if part.dim() == 4 and part.is_contiguous(memory_format=torch.channels_last):
                features = features.contiguous(memory_format=torch.channels_last)
        features[start : start + BATCH] = part
    return features

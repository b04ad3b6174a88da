"""Models of one's own: imports the factory that a name such as `net.py:build` stands for, calls it, and tries what it
gives. Nothing is imported whose name was not trusted first, by the person at this machine."""

import hashlib
import importlib
import importlib.util
import inspect
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from labbench.bench.errors import BenchError
from labbench.bench.states.copies import check_copies, copied, is_random
from labbench.bench.states.state import trainable
from labbench.session.check import listed, meant
from labbench.session.operations import Load, Value
from labbench.session.own import place_of, problem_of

SIDE = 28  # smaller images are resized to this, as for the LeNets; the option `side` says otherwise
LARGEST_SIDE = 1024
TRIAL_IMAGES, COPIED_IMAGES, TRIAL_SEED = 2, 4, 1
NARROW = (torch.float16, torch.bfloat16)
RANDOM = (
    "the model answers at random, in eval mode too (F.dropout without training=self.training?): each accuracy is one "
    "draw, and cuts and exports cannot be checked"
)
FAULTS = (Exception, SystemExit)
"""What code of the user's may raise without ending the worker."""
CLASSES = ("num_classes", "classes")
"""Names under which a factory may ask for the number of classes."""
CHANNELS = ("in_channels", "channels")
"""… and for the number of channels of an image; `shape` is channels, height and width."""


class OwnModels:
    """The names that were trusted, and the factories that were imported for them."""

    def __init__(self) -> None:
        self.trusted: set[str] = set()
        self._factories: dict[tuple[str, str], Callable[..., Any]] = {}
        """By name and hash of the code: going back to an older state needs the code that it was made with."""

    def prepared(self, load: Load) -> "Prepared":
        """What is to be called for a load, imported and with its options checked. Raises `BenchError`."""
        if load.model not in self.trusted:
            raise BenchError(
                f"{load.model} is code, and nobody asked for it by name in this call: it is not imported; open it "
                "with --model, or in Open, or allow it"
            )
        code = load.code_sha256
        if (load.model, code) not in self._factories:
            code = self._take(load.model)
        factory = self._factories[load.model, code]
        options = dict(load.options)
        side = options.pop("side", SIDE) if "side" not in _parameters(factory) else SIDE
        if type(side) is not int or not 1 <= side <= LARGEST_SIDE:
            raise BenchError(f"{load.model}: side must be a whole number from 1 to {LARGEST_SIDE}, not {side!r}")
        _check_names(load.model, factory, options)
        return Prepared(load.model, factory, options, side, code)

    def _take(self, model: str) -> str:
        """Import the factory of a name as its file is now; returns the hash of that file."""
        if problem := problem_of(model):
            raise BenchError(problem)
        where, _, what = model.rpartition(":")
        place = place_of(model)
        code = hashlib.sha256(place.read_bytes()).hexdigest() if place else ""
        if (model, code) in self._factories:
            return code
        if any(name == model for name, _ in self._factories):
            sys.modules.pop(where, None)  # its file was changed since
        with guarded(f"{model} cannot be imported"):
            module = _module_of_file(model, place) if where.endswith(".py") else _module_of_name(model)
        found: object = module
        for name in what.split("."):
            if not hasattr(found, name):
                public = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
                raise BenchError(f"{where} has no {what}; it has {listed(public) or 'nothing'}{meant(what, public)}")
            found = getattr(found, name)
        if isinstance(found, nn.Module):
            raise BenchError(f"{model} is a model; name its class, or a function that makes a new one each time")
        if not callable(found):
            raise BenchError(f"{model} is a {type(found).__name__}; a function or a class that makes a model was meant")
        self._factories[model, code] = found
        return code


class Prepared:
    """An imported factory and what it is to be called with."""

    def __init__(
        self, model: str, factory: Callable[..., Any], options: Mapping[str, Value], side: int, code: str
    ) -> None:
        self.model, self.factory, self.options, self.side, self.code = model, factory, options, side, code

    def build(self, shape: tuple[int, ...], classes: int, device: torch.device) -> "Built":
        """A new model in eval mode on the device that turns N×C×H×W into logits N×classes, tried in both modes.

        The random numbers are the caller's to seed. Raises `BenchError`.
        """
        arguments = _arguments(self.model, self.factory, self.options, shape, classes)
        with guarded(f"{self.model} failed"):
            made = self.factory(**arguments)
        if not isinstance(made, nn.Module):
            raise BenchError(f"{self.model} gave {_kind(made)}, not a torch.nn.Module")
        images = f"images of {_words(shape)}"
        _refuse_programs(self.model, made)
        narrow = widened(made)
        here = f", with its {' and '.join(narrow)} made float32" if narrow else ""
        with guarded(f"{self.model} does not run on {images}{here}"):
            fold_masks(made)
            made.to(device)
            if made.train() is not made or made.eval() is not made:
                raise BenchError(f"{self.model}: its train() gives back something else; end it with return self")
            with torch.no_grad():  # the first pass makes lazy layers
                _try(self.model, made, shape, classes)
        loose = [name for name, value in made.state_dict().items() if not isinstance(value, Tensor)]
        if loose:
            raise BenchError(f"{self.model} keeps what is no tensor in its state_dict: {listed(loose)}")
        several = _images(COPIED_IMAGES, shape, device)
        with guarded(f"a copy of {self.model} does not run on {images}"):
            check_copies(self.model, made, several, training=False)
        with guarded(f"{self.model} does not train on {images}"):
            _try(self.model, trainable(copied(self.model, made).train()), shape, classes)
            check_copies(self.model, made, several, training=True)
        remarks = [f"stored as {' and '.join(narrow)}; float32 from here on"] if narrow else []
        if is_random(made, _images(TRIAL_IMAGES, shape, device)):
            remarks.append(RANDOM)
        return Built(made, tuple(remarks))


class Built(NamedTuple):
    """A model that was made, and remarks."""

    model: nn.Module
    remarks: tuple[str, ...]


def _refuse_programs(name: str, model: nn.Module) -> None:
    """Raise `BenchError` for what is compiled: its layers cannot be looked into, nor changed."""
    for module in model.modules():
        if isinstance(module, torch.jit.ScriptModule):
            raise BenchError(f"{name} gave TorchScript, whose layers cannot be changed; return the model before jit")
        if hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None):
            raise BenchError(f"{name} is compiled, and would not see a change; return the model without torch.compile")


def widened(model: nn.Module) -> list[str]:
    """Make parameters and buffers of 16 bits float32, in place: weights are looked at in float32. Gives their types."""
    tensors = (*model.parameters(), *model.buffers())
    found = sorted({str(tensor.dtype).removeprefix("torch.") for tensor in tensors if tensor.dtype in NARROW})
    if found:
        model._apply(lambda tensor: tensor.float() if tensor.dtype in NARROW else tensor)
    return found


def fold_masks(model: nn.Module) -> None:
    """Make the masks of `torch.nn.utils.prune` part of the weights: hooked tensors are stale, and cannot be copied."""
    for module in model.modules():
        for hook in list(module._forward_pre_hooks.values()):
            if isinstance(hook, prune.BasePruningMethod):
                prune.remove(module, hook._tensor_name)


def fixed_layers(model: nn.Module, layers: Mapping[str, int]) -> frozenset[str]:
    """The layers (by name, with how many parameters they have) that the model holds fixed by `requires_grad`."""
    trained = {name for name, p in model.named_parameters(remove_duplicate=False) if p.requires_grad}
    owners = trained | {name.rpartition(".")[0] for name in trained}
    return frozenset(name for name, count in layers.items() if count and name not in owners)


@contextmanager
def guarded(what: str) -> Iterator[None]:
    """Whatever the user's code raises, an end of the program included, becomes a `BenchError`: what, and the reason.

    Settings that it changed for the whole process are put back; the folder where the bench was started can be imported
    from, as with `python -m`.
    """
    dtype, threads, grad, writing = (
        torch.get_default_dtype(),
        torch.get_num_threads(),
        torch.is_grad_enabled(),
        sys.dont_write_bytecode,
    )
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    sys.dont_write_bytecode = True  # nothing of ours stays in a user's folder
    try:
        yield
    except BenchError:
        raise
    except FAULTS as error:
        raise BenchError(f"{what}: {reason(error)}") from error
    finally:
        torch.set_default_dtype(dtype)
        torch.set_num_threads(threads)
        torch.set_grad_enabled(grad)
        sys.dont_write_bytecode = writing


def reason(error: BaseException) -> str:
    """An exception in a few words: its kind, its first line, and the line of code outside torch that it came from."""
    lines = str(error).strip().splitlines()
    said = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "site-packages" not in frame.filename]
    last = frames[-1] if frames else None
    if last is None or Path(__file__).parents[2] in Path(last.filename).parents or not last.filename.endswith(".py"):
        return said
    return f"{said} ({Path(last.filename).name}, line {last.lineno})"


def _module_of_file(model: str, place: Path | None) -> Any:
    where = model.rpartition(":")[0]
    if place is None:
        raise BenchError(f"there is no file {where} in {Path.cwd()}")
    if str(place.parent) not in sys.path:
        sys.path.insert(0, str(place.parent))  # what lies beside it can be imported, as with `python net.py`
    name = f"own_{re.sub(r'[^0-9A-Za-z_]', '_', place.stem)}"  # a name of its own: random.py must not become random
    spec = importlib.util.spec_from_file_location(name, place)
    assert spec
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        exec(compile(place.read_bytes(), str(place), "exec"), module.__dict__)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _module_of_name(model: str) -> Any:
    where = model.rpartition(":")[0]
    importlib.invalidate_caches()
    try:
        return importlib.import_module(where)
    except ModuleNotFoundError as error:
        if error.name and (where == error.name or where.startswith(f"{error.name}.")):
            raise BenchError(
                f"there is no module {error.name}, neither in {Path.cwd()} nor installed; a file is named with its "
                ".py, as in net.py:build"
            ) from error
        raise


def _parameters(factory: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    try:
        return dict(inspect.signature(factory).parameters)
    except (TypeError, ValueError):  # built in: nothing is known of it
        return {}


def _named(factory: Callable[..., Any]) -> tuple[list[str], bool]:
    """The arguments that can be given by name, and whether any other name can be given, too."""
    parameters = _parameters(factory)
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    free = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())
    return [name for name, parameter in parameters.items() if parameter.kind in by_name], free


def _check_names(model: str, factory: Callable[..., Any], options: Mapping[str, Value]) -> None:
    names, free = _named(factory)
    for name in options:
        if name not in names and not free:
            takes = f"it takes {listed([*names, *({'side'} - set(names))])}"
            raise BenchError(f"{model} has no option {name}; {takes}{meant(name, names)}")


def _arguments(
    model: str, factory: Callable[..., Any], options: Mapping[str, Value], shape: tuple[int, ...], classes: int
) -> dict[str, Any]:
    """What the factory is called with: what it asks for by name of the data, and the user's options."""
    names, free = _named(factory)
    given: dict[str, Any] = {"shape": tuple(shape)}
    given |= dict.fromkeys(CLASSES, classes) | dict.fromkeys(CHANNELS, shape[0])
    told = {name: value for name, value in given.items() if name in names}
    if free and not set(CLASSES) & set(names):
        told["num_classes"] = classes  # as torchvision's factories take it
    told |= options
    missing = [
        name
        for name, parameter in _parameters(factory).items()
        if parameter.default is parameter.empty
        and parameter.kind not in (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
        and (name not in told or parameter.kind is inspect.Parameter.POSITIONAL_ONLY)
    ]
    if missing:
        raise BenchError(f"{model} needs {listed(missing)}, which no data set tells; give it as an option NAME=VALUE")
    return told


def _try(model: str, module: nn.Module, shape: tuple[int, ...], classes: int) -> None:
    """Raise `BenchError` unless the module, in its mode, turns two random images into logits, and leaves them alone."""
    device = next((tensor.device for tensor in module.parameters()), torch.device("cpu"))
    x = _images(TRIAL_IMAGES, shape, device)
    given = x.clone()
    answer = module(given)
    when = "in training, " if module.training else ""
    if not isinstance(answer, Tensor):
        raise BenchError(f"{model} answers with a {type(answer).__name__}, {when}not with one tensor of logits")
    if tuple(answer.shape) != (TRIAL_IMAGES, classes) or not answer.is_floating_point():
        raise BenchError(
            f"{model} answers {_words(answer.shape)} {when}for {TRIAL_IMAGES} images of {_words(shape)}; "
            f"{TRIAL_IMAGES}×{classes} was expected: a logit for each class"
        )
    if not torch.equal(x, given):
        raise BenchError(f"{model} changes the images that it is given, in place; write x = x - mean, not x -= mean")
    if module.training and not answer.requires_grad:
        raise BenchError(f"{model} cannot be trained: no gradient reaches its parameters")


def _images(count: int, shape: tuple[int, ...], device: torch.device) -> Tensor:
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(TRIAL_SEED)).to(device)


def _words(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape)) or "one number"


def _kind(value: object) -> str:
    return "None" if value is None else f"a {type(value).__name__}"

"""Every cut is checked: the cut network must answer as its twin does, the uncut network with the removed channels at
zero. As they stand in eval mode; and in training mode, with whatever was zero set to something else, for zeros move."""

import copy
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from labbench.bench.errors import BenchError, Stopped, never
from labbench.bench.pruning.traced import heard
from labbench.bench.states import surgery
from labbench.bench.states.state import CONV
from labbench.bench.states.surgery import Gone

TOLERANCE = 1e-5  # relative, in float64, where rounding stays under 1e-12
COARSE = {torch.float32: 1e-4, torch.float16: 3e-2, torch.bfloat16: 1e-1}  # where float64 does not run
IMAGES = 2
SEED = 20_151_210
WITHOUT = "without some of its channels the network"

T = TypeVar("T")


class Differs(BenchError):
    """A cut that is not right. `reason` follows "because"; `detail` has the figures."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}{detail and f' ({detail})'}; nothing was changed")
        self.reason, self.detail = reason, detail

    def alone(self) -> "Differs":
        """The same without the frames that it came from: they hold networks."""
        return Differs(self.reason, self.detail)


class Steady(TorchFunctionMode):
    """No chance: what is drawn is always the same, whatever its shape, and nothing is dropped."""

    FIXED = {
        **dict.fromkeys(("rand", "rand_like", "uniform_"), 0.5),
        **dict.fromkeys(("randn", "randn_like", "normal", "normal_"), 0.0),
        **dict.fromkeys(("bernoulli", "bernoulli_", "exponential_"), 1.0),
    }

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Call `func`, or what stands for it."""
        name, given = getattr(func, "__name__", ""), dict(kwargs or {})
        if "dropout" in name and (args or "input" in given):
            return args[0] if args else given["input"]
        if name == "scaled_dot_product_attention":
            args, given = ((*args[:4], 0.0, *args[5:]), given) if len(args) > 4 else (args, {**given, "dropout_p": 0.0})
        drawn = func(*args, **given)
        return drawn.fill_(self.FIXED[name]) if name in self.FIXED else drawn


def sound(parts: Sequence[T], check: Callable[[Sequence[T]], None]) -> tuple[list[T], list[tuple[T, Differs]]]:
    """The parts that pass the check together, and what it says of the others: alone, or together with those."""
    if not parts:
        return [], []
    try:
        check(parts)
    except Differs as error:
        if len(parts) == 1:
            return [], [(parts[0], error.alone())]
    else:
        return list(parts), []
    half = len(parts) // 2
    (good, bad), (more, worse) = sound(parts[:half], check), sound(parts[half:], check)
    bad += worse
    if good and more:
        try:
            check([*good, *more])
            return [*good, *more], bad
        except Differs:
            for part in more:
                try:
                    check([*good, part])
                    good.append(part)
                except Differs as error:
                    bad.append((part, error.alone()))
        return good, bad
    return good or more, bad


@dataclass(frozen=True)
class Check:
    """How the two networks are run, and how far their answers may lie apart."""

    gone: Gone
    images: Tensor
    exact: bool
    """In float64; else in the types that the model has."""
    tolerance: float
    stopped: Callable[[], bool]

    def into(self, model: nn.Module) -> nn.Module:
        """A model in the types of the check, in place."""
        if self.exact:
            model.double()
            for tensor in (*model.parameters(), *model.buffers()):
                if tensor.is_complex():  # `double` leaves them
                    tensor.data = tensor.data.to(torch.complex128)
        return model

    def twin(self, model: nn.Module) -> nn.Module:
        """A copy with the channels that go at zero."""
        made = self.into(copy.deepcopy(model))
        surgery.silence(made, self.gone)
        return made

    def cut(self, model: nn.Module) -> nn.Module:
        """A copy without them."""
        made = copy.deepcopy(model)
        surgery.remove_filters(made, self.gone)
        return self.into(made)

    def run(self, model: nn.Module, images: Tensor, *, training: bool = False, seed: int = SEED) -> list[Tensor]:
        """All tensors of the answer. In training mode nothing is dropped, and the model's statistics move."""
        if training:
            for module in model.modules():
                if isinstance(getattr(module, "dropout", None), float):  # attention's
                    module.dropout = 0.0  # type: ignore[assignment]
        model.train(training)
        torch.default_generator.manual_seed(seed)  # nobody else's on a GPU
        steady = Steady() if training else nullcontext()
        with warnings.catch_warnings(action="ignore"), heard(model, self.stopped), steady:
            # a copy: a model may change its input in place
            return _tensors(model(images.clone() if self.exact else images.float()))

    def tried(self, model: nn.Module, images: Tensor, *, training: bool = False) -> list[Tensor] | None:
        """The same, or None where the model does not run, or answers no numbers."""
        try:
            answer = self.run(model, images, training=training)
        except Stopped:
            raise
        except Exception:  # noqa: BLE001  # whatever a foreign model raises
            return None
        return answer if all(bool(tensor.isfinite().all()) for tensor in answer) else None

    def compare(
        self, expected: list[Tensor], model: nn.Module, images: Tensor, when: str, *, training: bool = False
    ) -> None:
        """Raise `Differs` unless the model, once it is cut, gives the expected answer."""
        try:
            answer = self.run(self.cut(model), images, training=training)
        except Stopped:
            raise
        except Exception as error:
            raise Differs(f"{WITHOUT} does not run{when}", str(error).strip().partition("\n")[0]) from error
        for one, other in zip(expected, answer, strict=False):
            if one.shape != other.shape:
                raise Differs(f"{WITHOUT} answers {tuple(other.shape)} instead of {tuple(one.shape)}{when}")
        apart = max((_apart(one, other) for one, other in zip(expected, answer, strict=False)), default=0.0)
        if not apart <= self.tolerance or len(expected) != len(answer):
            raise Differs(f"{WITHOUT} answers differently{when}", f"by {apart:.1e}")


def check_twin(before: nn.Module, gone: Gone, shape: tuple[int, ...], stopped: Callable[[], bool] = never) -> None:
    """Raise `Differs` unless `before`, once it is cut, answers as it does with the removed output channels at zero.

    Both on the CPU, compared on random images, in float64 or, where that does not run, as they are; relative to the
    largest answer. Raises `BenchError` where no cut of this model can be checked, `Stopped`.
    """
    images = torch.randn(IMAGES, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(SEED))
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        check, expected = _begin(before, gone, images, stopped)
        try:
            check.compare(expected, before, images, "")
        except Differs:
            _refuse_chance(check, before, images, expected)
            raise
        _check_trained(check, before)


def _begin(before: nn.Module, gone: Gone, images: Tensor, stopped: Callable[[], bool]) -> tuple[Check, list[Tensor]]:
    """The most exact check that the network runs in, and what its twin answers there."""
    kinds = {tensor.dtype for tensor in before.parameters()} & COARSE.keys()
    coarse = max((COARSE[kind] for kind in kinds), default=COARSE[torch.float32])
    raised: Exception | None = None
    for check in (Check(gone, images, True, TOLERANCE, stopped), Check(gone, images, False, coarse, stopped)):
        try:
            expected = check.run(check.twin(before), images)
        except Stopped:
            raise
        except Exception as error:  # noqa: BLE001  # whatever a foreign model raises
            raised = raised or error
            continue
        if not all(bool(tensor.isfinite().all()) for tensor in expected):
            raise BenchError("the answers of the network are not finite, so no cut can be checked: undo to before that")
        return check, expected
    raise BenchError(f"the network does not run on random images, on which cuts are checked ({raised})") from raised


def _refuse_chance(check: Check, before: nn.Module, images: Tensor, expected: list[Tensor]) -> None:
    """Raise `BenchError` where the network answers the same images now so, now so."""
    again = check.run(check.twin(before), images, seed=SEED + 1)
    if max(map(_apart, expected, again)) > check.tolerance:
        raise BenchError(
            "the network answers at random, in eval mode too (as F.dropout does without training=self.training), so "
            "no cut can be checked"
        )


def _check_trained(check: Check, before: nn.Module) -> None:
    """The same in training mode, once what is zero has moved, on other images; where chance rules, in eval mode."""
    images = -check.images
    moved = _moved(copy.deepcopy(before))
    trained = check.tried(check.twin(moved), images, training=True)
    failed: Differs | None = None
    if trained is not None:
        try:
            check.compare(trained, moved, images, " in training mode", training=True)
            return
        except Differs as error:
            failed = error
    for start, when in ((before, ""), (moved, " once weights that are zero now move")):
        expected = check.tried(check.twin(start), images)
        if expected is not None:
            check.compare(expected, start, images, when)
    if failed and trained is not None:
        again = check.run(check.twin(moved), images, training=True, seed=SEED + 1)
        if "does not run" in failed.reason or max(map(_apart, trained, again)) <= check.tolerance:
            raise failed


def _moved(model: nn.Module) -> nn.Module:
    """The model with every parameter that is zero at something else, in place: single weights of layers stay."""
    generator = torch.Generator().manual_seed(SEED)
    for name, parameter in model.named_parameters():
        zero = parameter == 0
        layer = isinstance(model.get_submodule(name.rpartition(".")[0]), (*CONV, nn.Linear))
        if parameter.is_floating_point() and bool(zero.any()) and (not layer or bool(zero.all())):
            size = 1.0 if parameter.dim() < 2 else (parameter[0].numel()) ** -0.5
            values = size * (0.5 + torch.rand(parameter.shape, generator=generator, dtype=parameter.dtype))
            parameter.data = torch.where(zero, values, parameter)
    return model


def _tensors(answer: Any) -> list[Tensor]:
    """Of a tensor, or of a nest of tensors such as the answers with those of auxiliary heads."""
    if isinstance(answer, Tensor):
        return [answer]
    parts = answer.values() if isinstance(answer, Mapping) else answer if isinstance(answer, tuple | list) else ()
    return [tensor for part in parts for tensor in _tensors(part)]


def _apart(expected: Tensor, answer: Tensor) -> float:
    return float((answer - expected).abs().max() / expected.abs().max().clamp_min(1e-30)) if expected.numel() else 0.0

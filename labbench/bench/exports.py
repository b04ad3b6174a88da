"""Models as files for others, and back: weights with labbench's record, and programs that run without labbench. A
program is run once, and must answer as the bench's model does, before it takes its place on disk."""

import importlib.util
import io
import re
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import torch
from msgspec.structs import replace as with_fields
from torch import Tensor, nn
from torch.export import ExportedProgram

from labbench.bench.errors import BenchError, clipped
from labbench.bench.states import checkpoints, opened
from labbench.bench.states.checkpoints import RECORD, record_of, replacing, save
from labbench.bench.states.state import Data, State
from labbench.session.check import listed
from labbench.session.events import EXPORT_FORMATS, Exported
from labbench.session.own import is_own
from labbench.session.reading import text_of

TOLERANCE = 1e-4  # of the largest logit, or of 1 where that is smaller
IMAGES = 4  # other than the 2 that are traced: the batch dimension is dynamic
FLOAT = 4  # bytes
CHUNK = 2**20
GZIP = 31  # what zlib calls the format of gzip
COLORS = re.compile(r"\x1b\[[0-9;]*m")
ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def export(state: State, path: Path) -> Exported:
    """Write the model of a state in the format that the suffix names, atomically.

    Raises `BenchError` for another suffix, a package that is not there, a model that cannot be traced, a program that
    answers differently from the model, or a path that cannot be written.
    """
    remarks: tuple[str, ...] = ()
    deviation = None
    match path.suffix:
        case ".safetensors" | ".pth" | ".pt":
            save(state, path)
        case ".pt2" | ".onnx":
            if path.suffix == ".onnx":
                _require(ONNX_PACKAGES)
            with replacing(path) as new, warnings.catch_warnings():
                warnings.simplefilter("ignore")  # exporters warn of what becomes of them, not of the model
                write, answer = (_write_program, _program) if path.suffix == ".pt2" else (_write_onnx, _onnx)
                model = state.copy_model().cpu().requires_grad_(False)
                write(_traced(model, state), record_of(state), new)
                deviation = _deviation(model, answer(new), state)
            remarks = (_takes(state.data),)
        case _:
            raise BenchError(f"{path.name}: an export is written as {listed(EXPORT_FORMATS)}, by its ending")
    return Exported(
        path=text_of(path),
        size=path.stat().st_size,
        gzipped=gzipped(path),
        loaded=FLOAT * sum(layer.parameters for layer in state.layers),
        deviation=deviation,
        remarks=remarks,
    )


def load_model(path: str | Path) -> nn.Module:
    """A model that labbench exported as .safetensors, .pth or .pt: on the CPU, in eval mode, without bench or data set.

    It takes images N×C×H×W, normalized, and gives logits N×classes. `model.labbench` is the `Record`: shape, classes,
    mean and std of the normalization, and what was done to the model. Raises `BenchError` for a file of another kind.
    """
    path = Path(path).expanduser()
    if path.suffix in (".pt2", ".onnx"):
        how = "torch.export.load(…).module()" if path.suffix == ".pt2" else "onnxruntime"
        raise BenchError(f"{path} holds a program, which runs without labbench: open it with {how}")
    tensors, record = checkpoints.read(path)
    if record is None:
        raise BenchError(f"{path} has no record of labbench, so that only its maker knows what model it fits")
    if is_own(record.load.model):
        raise BenchError(f"{path} holds {record.load.model}, whose code is not run here; export it as .pt2 or .onnx")
    options = {
        name: value for name, value in record.load.options.items() if name != "pretrained"
    }  # nothing to download
    built = opened.build(with_fields(record.load, options=options), record.shape, len(record.classes))
    model = checkpoints.filled(built, tensors, record, path).eval()
    model.labbench = record  # type: ignore[assignment]  # a module may have any attribute
    return model


def gzipped(path: Path) -> int:
    """Bytes of a file in the format of gzip, by zlib at level 6; the program gzip makes about 1 % more."""
    packer, size = zlib.compressobj(6, wbits=GZIP), 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            size += len(packer.compress(chunk))
    return size + len(packer.flush())


def _traced(model: nn.Module, state: State) -> ExportedProgram:
    """The model as a graph for any number of images."""
    example = torch.zeros(2, *state.data.shape)  # torch.export takes a dimension of 1 for a constant
    try:
        return torch.export.export(model, (example,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    except Exception as error:  # whatever a tracer stumbles over in a foreign model
        raise BenchError(f"torch.export cannot trace this model: {_why(error)}") from error


def _write_program(program: ExportedProgram, record: str, path: Path) -> None:
    held = io.BytesIO()  # on a disk that is full its writer would end the process, when it is collected
    torch.export.save(program, held, extra_files={RECORD: record})
    path.write_bytes(held.getbuffer())


def _program(path: Path) -> Callable[[Tensor], Tensor]:
    return torch.export.load(path).module()


def _write_onnx(program: ExportedProgram, record: str, path: Path) -> None:
    try:
        graph = torch.onnx.export(program, input_names=["images"], output_names=["logits"], dynamo=True, verbose=False)
    except Exception as error:  # an operator that ONNX does not have, and whatever else
        raise BenchError(f"torch.onnx cannot export this model: {_why(error)}") from error
    assert graph is not None
    graph.model.metadata_props[RECORD] = record
    graph.save(path, external_data=False)


def _onnx(path: Path) -> Callable[[Tensor], Tensor]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # an operator that it has not, in this type
        raise BenchError(f"onnxruntime cannot run the written program: {_why(error)}; nothing is kept") from error
    return lambda images: torch.from_numpy(session.run(None, {"images": images.numpy()})[0])


def _deviation(model: nn.Module, answer: Callable[[Tensor], Tensor], state: State) -> float:
    """The largest difference of a logit on images of the validation split, as a part of the largest logit or of 1.

    Raises `BenchError` if it is too large.
    """
    images = state.data.normalized(state.data.on(torch.device("cpu"))["validation"][0][:IMAGES])
    with torch.no_grad():
        expected = model(images)
        try:
            difference = (answer(images) - expected).abs().max() / expected.abs().max().clamp_min(1)
        except Exception as error:  # what was traced for two images need not run for more
            raise BenchError(f"the written program does not run: {_why(error)}; nothing is kept") from error
        if not torch.equal(model(images), expected):
            raise BenchError("the model answers at random, in eval mode too, so no program can be compared with it")
    if not difference <= TOLERANCE:
        raise BenchError(
            f"the written program answers differently from the model, by {difference:.1e}; nothing is kept"
        )
    return float(difference)


def _takes(data: Data) -> str:
    """What a program must be given, in words."""
    images = f"N×{'×'.join(map(str, data.shape))}"
    if not data.mean:
        return f"takes {images} floats, as the data set {data.name} gives them"
    mean, std = (", ".join(f"{value:.4f}" for value in values) for values in (data.mean, data.std))
    return f"takes normalized images {images}: (pixels / 255 − mean) / std with mean {mean} and std {std}"


def _require(packages: tuple[str, ...]) -> None:
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise BenchError(f"an .onnx file needs {listed(missing)}: pip install 'labbench[onnx]'")


def _why(error: BaseException) -> str:
    """The reason that lies deepest, in one line of plain text: exporters wrap it in advice and in colors."""
    while error.__cause__:
        error = error.__cause__
    lines = [line.strip() for line in COLORS.sub("", str(error)).splitlines() if line.strip()]
    return clipped(lines[0]) if lines else type(error).__name__

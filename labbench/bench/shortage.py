"""Memory that does not suffice: known by its many exceptions, said in one sentence, and given back at once."""

import gc
import re
import traceback

import torch

from labbench.session.events import AnyRequest, Preview
from labbench.session.operations import Cluster, Finetune, Load, Measure, Prune, Recalibrate, Scan, Time

MARKS = ("out of memory", "can't allocate memory", "ALLOC_FAILED", "bad_alloc", "Storage size calculation overflowed")
"""What else than their types says that exceptions of torch are about memory."""
ASKED = re.compile(r"tried to allocate (\d+) bytes|Tried to allocate ([\d.]+ .iB)")
GB = 1e9


def is_shortage(error: BaseException) -> bool:
    """Whether an exception says that there is not enough memory."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(mark in str(error) for mark in MARKS)


def sentence(error: BaseException, request: AnyRequest) -> str:
    """That there is not enough memory for a request, and what would take less."""
    return f"{_found(error)}; {_advice(request)}; the model is as before"


def give_back(error: BaseException) -> None:
    """Free what the frames of an exception hold, and what torch keeps of the memory of a GPU for later."""
    link: BaseException | None = error
    while link:
        traceback.clear_frames(link.__traceback__)
        link = link.__context__
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _found(error: BaseException) -> str:
    asked = ASKED.search(str(error))
    size = f" ({asked[2] or f'{int(asked[1]) / GB:,.2f} GB'} were asked for at once)" if asked else ""
    if torch.cuda.is_initialized() and not (asked and asked[1]):
        free, total = torch.cuda.mem_get_info()
        return f"the card is full: {(total - free) / GB:.1f} of {total / GB:.1f} GB are used{size}"
    return f"there is not enough memory{size}"


def _advice(request: AnyRequest) -> str:
    """What would take less."""
    match request:
        case Preview():
            return _advice(request.operation)
        case Finetune(batch_size=size) if not request.resume and size > 1:
            shorter = request.precision in ("auto", "fp32") and torch.cuda.is_initialized()
            return f"try a batch_size below {size}" + (", or precision bf16" if shorter else "")
        case Finetune():
            return "try a smaller batch_size in a run of its own" if request.resume else "try a smaller model"
        case Recalibrate():
            return f"try a batch_size below {request.batch_size}"
        case Load():
            return "try a smaller model, or smaller images"
        case Time():
            return f"try batches smaller than {max(request.batches)}"
        case Prune() | Cluster() | Scan():
            return f"try fewer layers at once, or another method than {request.method}"
        case Measure():
            return "it does not fit beside the model"
    return "close other programs, or take a smaller model"

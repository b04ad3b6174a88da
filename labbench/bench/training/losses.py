"""What a run minimizes beside its penalty: a function of the logits, the labels and, perhaps, a teacher's logits."""

import torch.nn.functional as F
from torch import Tensor

from labbench.session.operations import Finetune


def data_loss(operation: Finetune, logits: Tensor, labels: Tensor, teacher: Tensor | None = None) -> Tensor:
    """The mean loss of a batch: N×C logits (fp32), N labels and, for distillation, the teacher's N×C logits.

    (1 − distill) · cross entropy + distill · T² · KL(teacher/T ‖ logits/T), Hinton, Vinyals and Dean 2015, section 2.
    Softmax outputs in place of logits lie between 0 and 1: the cross entropy of C classes then cannot fall below
    log(1 + (C − 1)/e), and its gradient nearly vanishes; a factor on them gives room again.
    """
    outputs = logits
    if operation.loss == "softmax":
        outputs = logits.softmax(1)
    elif operation.loss == "scaled-softmax":
        outputs = operation.scale * logits.softmax(1)
    loss = F.cross_entropy(outputs, labels, label_smoothing=operation.label_smoothing)
    if teacher is None:
        return loss
    softened, asked = (logits / operation.temperature).log_softmax(1), (teacher / operation.temperature).log_softmax(1)
    divergence = F.kl_div(softened, asked, reduction="batchmean", log_target=True)
    return (1 - operation.distill) * loss + operation.distill * operation.temperature**2 * divergence

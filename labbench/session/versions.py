"""What older session files mean today: what they do not say is as it was then, so that doing it again is the same."""

import msgspec

from labbench.session.events import AnyEvent, Failed, Finished, Started
from labbench.session.operations import PLAIN, AnyOperation, Cluster, Finetune, Prune


def upgraded_event(event: AnyEvent, version: int) -> AnyEvent:
    """An event of a file of that version, with the operation it carries upgraded."""
    if isinstance(event, Started | Finished | Failed) and event.operation is not None:
        return msgspec.structs.replace(event, operation=upgraded(event.operation, version))
    return event


def upgraded(operation: AnyOperation, version: int) -> AnyOperation:
    """An operation of a file of that version as it is written today.

    In format 1 k-means was scikit-learn's, and every finetune computed in the plain way: there was no "auto".
    """
    match operation:
        case Finetune() if version < 2:
            plain = {name: value for name, value in PLAIN.items() if getattr(operation, name) == "auto"}
            return msgspec.structs.replace(operation, **plain)
        case Cluster(method="k-means") | Prune(method="kmeans") if version < 2:
            return msgspec.structs.replace(operation, options={"solver": "scikit-learn", **operation.options})
    return operation

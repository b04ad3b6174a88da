"""The status line: what was done last, and what came of it in figures."""

import pytest
from sample import LOAD, NOTE, accuracy, lenet_rows, pruned, snapshot

from labbench.session.events import Finished, Started
from labbench.session.operations import Evaluate, Finetune, Freeze, Prune, Undo
from labbench.session.session import Session
from labbench.tui.situation import Situation
from labbench.tui.widgets.status import outcome, status

ROWS = lenet_rows()
READY = Situation(worker="ready", model=True)
WHOLE = snapshot(ROWS, {"validation": accuracy(0.989)})
HALF = snapshot(pruned(ROWS, 0.5), {"validation": accuracy(0.847)})
TESTED = snapshot(pruned(ROWS, 0.5), {"validation": accuracy(0.847), "test": accuracy(0.831)})


def session_of(*steps):
    session = Session()
    for seconds, (operation, made) in enumerate(steps):
        session.append(seconds, Started(operation=operation))
        session.append(seconds, Finished(operation=operation, snapshot=made, remarks=("it is so",)))
    return session


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        (((LOAD, WHOLE),), "98.9 %"),
        (((LOAD, WHOLE), (Prune(), HALF)), "98.9 → 84.7 %  ×1.00 → ×2.00"),
        (((LOAD, WHOLE), (Prune(), HALF), (Undo(), WHOLE)), "84.7 → 98.9 %  ×2.00 → ×1.00"),
        (((LOAD, WHOLE), (Prune(), HALF), (NOTE, None), (Finetune(), WHOLE)), "84.7 → 98.9 %  ×2.00 → ×1.00"),
        (((LOAD, HALF), (Evaluate(), TESTED)), "test 83.1 %"),
        (((LOAD, WHOLE), (Freeze(), WHOLE)), "98.9 %"),
        (((LOAD, WHOLE), (NOTE, None)), ""),
    ],
)
def test_an_operation_is_told_with_what_it_did_to_the_model(steps, said):
    session = session_of(*steps)
    assert "  ".join(outcome(session)) == said
    for width in (80, 120):
        assert said in status(session, READY, width).plain


def test_where_there_is_least_room_the_accuracy_stays():
    line = status(session_of((LOAD, WHOLE), (Prune(), HALF)), READY, 46).plain
    assert line.startswith("2 prune all layers") and line.endswith("98.9 → 84.7 %") and len(line) <= 46


def test_words_give_way_to_figures():
    long = Prune(layers=("conv1", "conv2", "fc1"), method="group-magnitude", amount=0.5, scope="global", round_to=8)
    line = status(session_of((LOAD, WHOLE), (long, HALF)), READY, 78).plain
    assert line.index("98.9 → 84.7 %  ×1.00 → ×2.00") + len("98.9 → 84.7 %  ×1.00 → ×2.00") <= 78
    assert line.startswith("2 prune conv1, conv2, fc1 to 50 %") and "…  98.9" in line
    assert status(session_of((LOAD, WHOLE), (long, HALF)), READY, 200).plain.endswith(" · it is so")

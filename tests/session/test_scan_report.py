"""The table of a scan: a line a layer, brackets around the plan, no number cut, growing as it is measured."""

from session_examples import LOAD, finished, snapshot

from labbench.session.events import Finished, Probed, Started
from labbench.session.measures import LayerScan, Scanned
from labbench.session.operations import Prune, Scan, Undo
from labbench.session.scan_report import latest, of_another, table
from labbench.session.session import Session

FOUND = Scanned(
    top1=0.978,
    layers=(
        LayerScan(layers=("layer1.0.conv1",), amounts=(0.1, 0.5, 0.9), top1=(0.978, 0.95, 0.1)),
        LayerScan(layers=("conv1", "layer1.0.conv2"), amounts=(0.1, 0.5, 0.9), top1=(0.97, 0.3, 1.0)),
        LayerScan(layers=("fc",), refused="these outputs are the answers of the model"),
    ),
)


def test_the_plan_stands_in_brackets() -> None:
    assert table(FOUND, drop=0.03) == [
        "                10%   50%   90%",
        "layer1.0.conv1 97.8 [95.0] 10.0",
        "conv1 +1      [97.0] 30.0   100",
        "fc              these outputs ar",
    ]


def test_long_names_and_many_amounts_give_way_to_the_width() -> None:
    amounts = tuple(n / 50 for n in range(1, 50))
    wide = Scanned(top1=1.0, layers=(LayerScan(layers=("a" * 60 + ".conv1",), amounts=amounts, top1=(1.0,) * 49),))
    for width in (30, 60, 80, 200):
        lines = table(wide, 0.1, width)
        assert all(len(line) <= width for line in lines)
        assert lines[0].split()[0] == "2%" and lines[0].split()[-1] == "98%"
        assert lines[1].split()[0].endswith("conv1") and lines[1].split()[-1] == "[100]"


def test_a_scan_of_another_model_than_the_one_now_is_told() -> None:
    session = Session()
    dense, cut = snapshot(fingerprint="dense"), snapshot(fingerprint="cut")
    for operation, found, scanned in ((LOAD, dense, None), (Scan(), None, FOUND)):
        session.append(0.0, Finished(operation=operation, snapshot=found, scanned=scanned))
    assert of_another(session) == ""
    session.append(1.0, Finished(operation=Prune(), snapshot=cut))
    assert of_another(session) == "of the model as it was at step 2"
    session.append(2.0, Finished(operation=Undo(), snapshot=dense))
    assert of_another(session) == ""


def test_a_scan_that_runs_is_shown_as_far_as_it_is() -> None:
    session = Session()
    for event in finished(LOAD, snapshot(validation=0.9)):
        session.append(0.0, event)
    assert latest(session) is None
    session.append(1.0, Finished(operation=Scan(), scanned=FOUND))
    assert latest(session) == FOUND
    session.append(2.0, Started(operation=Scan()))
    for amount, top1 in ((0.1, 0.8), (0.5, 0.2)):
        session.append(3.0, Probed(layers=("conv1",), amount=amount, top1=top1))
    running = latest(session)
    assert running == Scanned(top1=0.9, layers=(LayerScan(layers=("conv1",), amounts=(0.1, 0.5), top1=(0.8, 0.2)),))

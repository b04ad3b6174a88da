"""Random histories with undo, redo, jumps and branches: every figure that is shown for a model is its own or one of the
models that led to it. Each point gets figures that no other has, so a figure tells where it is from."""

import re
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from session_examples import LOAD, accuracy, finished, row, snapshot

from labbench.session.comparison import subject
from labbench.session.events import AnyEvent, Finished, Metric, Sparsity, Started
from labbench.session.figures import dense_accuracy
from labbench.session.history import rows
from labbench.session.operations import AnyOperation, Evaluate, Finetune, Jump, Note, Prune, Redo, Undo
from labbench.session.session import Session
from labbench.session.snapshot import Snapshot, Total
from labbench.tui.widgets.big_figures import figures
from labbench.tui.widgets.totals import totals

LOADED = 1000
NUMBER = re.compile(r"\d+\.\d")


@dataclass
class Bench:
    """What a bench would say: its points, and a session that hears it."""

    session: Session = field(default_factory=Session)
    models: dict[int, Snapshot] = field(default_factory=dict)
    made: dict[int, Snapshot] = field(default_factory=dict)
    """As they were when they were made, before more was measured of them."""
    curves: dict[int, list[float]] = field(default_factory=dict)

    def hear(self, *events: AnyEvent) -> None:
        for event in events:
            self.session.append(self.session.seconds + 1, event)

    def change(self, operation: AnyOperation) -> None:
        number = self.session.tree.count + 1
        weights = row(nonzero=LOADED - 3 * number, weights=LOADED, weights_loaded=LOADED, masked=number > 2)
        model = replace(
            snapshot(weights, validation=number / 1000),
            prunable=Total(loaded=LOADED, now=LOADED, nonzero=LOADED - 3 * number),
            whole=Total(loaded=LOADED, now=LOADED, nonzero=LOADED - 3 * number),
            macs=10**6 + 10**4 * number,
            fingerprint=f"{number:016}",
        )
        drawn = []
        if isinstance(operation, Finetune):
            drawn = [number + epoch / 10 for epoch in range(operation.epochs)]
            self.hear(Started(operation=operation))
            for epoch, y in enumerate(drawn, 1):
                self.hear(
                    Sparsity(epoch=epoch, nonzero={"conv1": LOADED - 3 * number}),
                    Metric(name="validation/loss", x=epoch, y=y),
                    Metric(name="sparsity", x=epoch, y=model.prunable.sparsity),
                )
            self.hear(Finished(operation=operation, snapshot=model))
        else:
            self.hear(*finished(operation, model))
        self.models[number] = self.made[number] = model
        self.curves[number] = drawn

    def do(self, operation: AnyOperation) -> None:
        tree = self.session.tree
        match operation:
            case Undo() | Redo() | Jump():
                try:
                    goal = tree.goal(operation)
                except ValueError:
                    return
                self.hear(*finished(operation, self.models[goal]))
            case Evaluate():
                now = self.models[tree.now]
                measured = accuracy(tree.now / 1000 + 0.0005 + 0.5)
                self.models[tree.now] = replace(now, accuracy={**now.accuracy, "test": measured})
                self.hear(*finished(operation, self.models[tree.now]))
            case Note():
                self.hear(*finished(operation, None))
            case _:
                self.change(operation)

    def way(self) -> list[Snapshot]:
        return [self.models[number] for number in self.session.tree.numbers()]


OPERATIONS = st.one_of(
    st.just(Prune()),
    st.integers(1, 3).map(lambda epochs: Finetune(epochs=epochs)),
    st.sampled_from([Undo(), Undo(), Redo(), Evaluate(split="test"), Note(text="a note")]),
    st.integers(1, 20).map(lambda number: Jump(to=str(number))),
)


def percents(model: Snapshot) -> set[str]:
    """The accuracies and the sparsity of a model as they are shown."""
    shares = [found.top1 for found in model.accuracy.values()] + [model.prunable.sparsity]
    return {f"{100 * share:.1f}" for share in shares}


def check_now(bench: Bench) -> None:
    session, way = bench.session, bench.way()
    now = way[-1]
    assert session.snapshot == now
    assert list(session.way) == way
    known = set().union(*map(percents, way))
    for figure in figures(session):
        if figure.label.startswith(("accuracy", "sparsity")):
            assert set(NUMBER.findall(figure.change)) <= known
            assert figure.digits.removesuffix("%") in percents(now)
            if " → " in figure.change and not figure.label.endswith("test"):
                assert figure.change.split(" → ")[0] in percents(way[-2])
    shown = totals(session, 200).plain.splitlines()
    (validation,) = (line for line in shown if line.startswith("validation"))
    before = f"{100 * way[-2].accuracy['validation'].top1:.1f} → " if len(way) > 1 else ""
    assert f"  {before}{100 * now.accuracy['validation'].top1:.1f} % top-1" in validation
    assert session.gone.points[-1][1] == now.prunable.sparsity
    dense = dense_accuracy(session, "validation")
    assert dense is None or dense in [model.accuracy["validation"] for model in way[:2]]


def check_points(bench: Bench) -> None:
    session = bench.session
    for line in rows(session):
        if line.is_point:
            assert line.accuracy == ("validation", bench.made[line.number].accuracy["validation"].top1)
            assert line.compression == bench.made[line.number].whole.ratio
    for number in session.tree.items:
        found = subject(session, number)
        assert found.snapshot == bench.models[number]
        drawn = [y for point in session.tree.numbers(number) for y in bench.curves[point]]
        curve = found.training.curves.get("validation/loss", ())
        assert curve == tuple((float(x), y) for x, y in enumerate(drawn, 1))
        assert found.training.epochs == len(drawn)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(OPERATIONS, min_size=4, max_size=16))
def test_every_figure_is_that_of_the_model_it_stands_for_or_of_one_that_led_there(operations):
    bench = Bench()
    bench.change(LOAD)
    for operation in operations:
        bench.do(operation)
        check_now(bench)
    check_points(bench)

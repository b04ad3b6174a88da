"""The curves pane: the penalty stands beside the loss where there was one, and has a sign of its own."""

from hosting import until
from sample import lenet_session
from stub import app_on, settled

from labbench.session.events import Finished, Metric, Started
from labbench.session.operations import Finetune, Prune
from labbench.tui.widgets.curves import Curves
from labbench.tui.words import figure


def legend(app):
    return app.screen.query_one(Curves).render().plain.splitlines()[0]


async def test_the_penalty_is_a_curve_beside_the_loss_and_only_there():
    session = lenet_session()
    app = app_on(session)
    async with app.run_test(size=(140, 40)) as pilot:
        await settled(app, pilot)
        assert "penalty" not in legend(app)
        session.append(99.0, Started(operation=Finetune(regularizer="l1")))
        for epoch in (1, 2, 3):
            session.append(99.0 + epoch, Metric(name="train/penalty", x=epoch, y=0.25 / epoch))
        app.touch()
        await until(pilot, lambda: "⠒+ penalty 0.0833" in legend(app))
        assert "train" in legend(app)
        await pilot.press("2")
        await until(pilot, lambda: "penalty" not in legend(app))


async def test_the_sparsity_that_is_shown_is_that_of_the_model_now_though_nothing_was_trained_since():
    session = lenet_session()
    now = session.snapshot.prunable
    least = next(step.snapshot for step in session.steps if step.snapshot.prunable.sparsity != now.sparsity)
    session.append(session.seconds + 1, Finished(operation=Prune(amount=0.1), snapshot=least))
    app = app_on(session)
    async with app.run_test(size=(140, 40)) as pilot:
        await settled(app, pilot)
        await pilot.press("3")
        shown = f"prunable weights {figure(100 * least.prunable.sparsity)} %"
        await until(pilot, lambda: shown in legend(app))

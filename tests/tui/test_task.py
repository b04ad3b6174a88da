"""The task form and the task line."""

from bench_data import snapshot
from hosting import PENDING, Host, seen, until

from labbench.session.events import Finished, Metric, Started
from labbench.session.operations import Finetune, Load, Task
from labbench.session.session import Session
from labbench.session.snapshot import Accuracy
from labbench.tui.screens.task import TaskForm
from labbench.tui.widgets.tasks import tasks

MODEL = snapshot(
    accuracy={
        "validation": Accuracy(
            images=100, top1=0.9, macro=0.9, worst=0.5, worst_class="8", loss=0.3, confusion=((90, 10), (0, 0))
        )
    }
)
MARKUP = "[@click=app.quit]x[/]"


async def test_a_task_is_typed_and_judged_while_it_is_typed():
    app = Host(TaskForm(snapshot()))
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "now: ✗ parameters" in seen(app))
        app.screen.query_one("#goals").value = "speed > 3"
        await until(pilot, lambda: "no figure 'speed'" in seen(app))
        await pilot.press("enter")
        assert app.result is PENDING
        app.screen.query_one("#goals").value = "sparsity > 50 %, accuracy >= 90 %"
        app.screen.query_one("#name").value = MARKUP
        await pilot.press("enter")
        await until(pilot, lambda: app.result is not PENDING)
    assert app.result == Task(name=MARKUP, goals=("sparsity > 50 %", "accuracy >= 90 %"))


async def test_the_last_task_can_be_changed_and_escape_leaves_it():
    app = Host(TaskForm(snapshot(), Task(name="old", goals=("macs < 30 %",), text="do")))
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "macs < 30 %" in seen(app))
        await pilot.press("escape")
        await until(pilot, lambda: app.result is None)


def test_the_line_says_where_the_model_stands_and_follows_a_run():
    task, run = Task(name=MARKUP, goals=("accuracy > 99.9 %", "sparsity >= 0 %")), Finetune(epochs=3)
    session = Session()
    assert tasks(session, 80).plain == ""
    session.append(0, Finished(operation=Load(model="m", dataset="d"), snapshot=MODEL))
    session.append(1, Finished(operation=task))
    now = 100 * session.snapshot.accuracy["validation"].top1
    assert f"task {MARKUP}   ✗ accuracy {now:.1f} > 99.9 %" in tasks(session, 100).plain
    session.append(2, Started(operation=run))
    session.append(3, Metric(name="validation/accuracy", x=1, y=0.77))
    assert "accuracy 77.0 > 99.9 %" in tasks(session, 100).plain
    assert all(len(line) <= 40 for line in tasks(session, 40).plain.splitlines())
    session.append(4, Finished(operation=Task(name="easy", goals=("sparsity >= 0 %",))))
    assert tasks(session, 80).plain.splitlines()[0].startswith("task easy ✓ met at step 3")

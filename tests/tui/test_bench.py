"""Keys and mouse in, operations out; sessions in, pictures out. The worker is a stub that keeps what it was sent."""

import pytest
from hosting import seen, until
from sample import LOAD, lenet_rows, lenet_session, resnet_session, running_session, snapshot
from stub import app_on, settled
from textual.widgets import Input

from labbench.session.events import (
    EXPORT_FORMATS,
    Coupled,
    Died,
    Export,
    Exported,
    Failed,
    Finished,
    Grouped,
    Groups,
    Preview,
    Previewed,
    Started,
    Stop,
)
from labbench.session.operations import (
    Cluster,
    Evaluate,
    Finetune,
    Freeze,
    Note,
    Prune,
    Recalibrate,
    Redo,
    Scan,
    Undo,
    Unfreeze,
    Unprune,
)
from labbench.session.recipe import Recipe
from labbench.session.series import gradual
from labbench.tui.fields import Field
from labbench.tui.screens.bench import BenchScreen
from labbench.tui.screens.confirm import Confirm
from labbench.tui.screens.form import OperationForm
from labbench.tui.screens.help import HelpScreen
from labbench.tui.screens.note import PathForm
from labbench.tui.screens.open import OpenScreen
from labbench.tui.screens.reader import Reader


async def started(app, pilot):
    await settled(app, pilot)
    assert isinstance(app.screen, BenchScreen)


def said(app):
    return [notification.message for notification in app._notifications]


@pytest.mark.parametrize(
    ("keys", "operation"),
    [
        ("space f", Freeze(layers=("conv1",))),
        ("space down down space f", Freeze(layers=("conv1", "fc1"))),
        ("j F", Unfreeze(layers=("*",))),
        ("a F", Unfreeze(layers=("conv1", "conv2", "fc1", "fc2"))),
        ("a a F", Unfreeze(layers=("*",))),
        ("G space g f", Freeze(layers=("fc2",))),
        ("shift+down shift+down f", Freeze(layers=("conv1", "conv2", "fc1"))),
        ("shift+down shift+down shift+up f", Freeze(layers=("conv1", "conv2"))),
        ("asterisk f c * enter f", Freeze(layers=("fc1", "fc2"))),
        ("slash f c enter a slash escape f", Freeze(layers=("fc1", "fc2"))),
        ("slash c o n v asterisk enter a f", Freeze(layers=("conv1", "conv2"))),
        ("a escape F", Unfreeze(layers=("*",))),
        ("r space f", Freeze(layers=("conv1",))),
        ("r g space f", Freeze(layers=("fc2",))),
        ("> > > g space f", Freeze(layers=("conv1",))),
        ("> > > r g space f", Freeze(layers=("fc1",))),
        ("e", Evaluate()),
        ("u", Undo()),
    ],
)
async def test_keys_become_operations(keys, operation):
    app = app_on(lenet_session())
    async with app.run_test(size=(120, 40)) as pilot:
        await started(app, pilot)
        await pilot.press(*keys.split())
        await until(pilot, lambda: app.link.sent)
        assert app.link.sent == [operation]


@pytest.mark.parametrize(
    ("keys", "operation"),
    [
        ("p", Prune(layers=("*",))),
        ("space p", Prune(layers=("conv1",))),
        ("k", Cluster(layers=("*",))),
        ("space k", Cluster(layers=("conv1",))),
        ("f", Freeze(layers=("*",))),
        ("z", Freeze(layers=("*",))),
        ("down space z", Freeze(layers=("conv2",))),
        ("P", Unprune(layers=("*",))),
        ("S", Scan(layers=("*",))),
        ("space S", Scan(layers=("conv1",))),
        ("t", Finetune()),
        ("a P", Unprune(layers=("conv1", "conv2", "fc1", "fc2"))),
    ],
)
async def test_forms_begin_with_the_marked_layers(keys, operation):
    app = app_on(lenet_session())
    async with app.run_test(size=(120, 40)) as pilot:
        await started(app, pilot)
        await pilot.press(*keys.split())
        await until(pilot, lambda: isinstance(app.screen, OperationForm))
        await pilot.press("enter")
        await until(pilot, lambda: [one for one in app.link.sent if not isinstance(one, Preview)])
        assert app.link.sent[-1] == operation
        assert app.settings.last(type(operation).__name__.lower())


async def test_a_form_asks_for_a_preview_and_shows_it():
    app = app_on(lenet_session())
    async with app.run_test(size=(120, 40)) as pilot:
        await started(app, pilot)
        await pilot.press("p")
        await until(pilot, lambda: app.link.sent)
        assert isinstance(app.link.sent[0], Preview)
        app.link.hear(Previewed(operation=app.link.sent[0].operation, error="[b]no such thing[/b]"))
        await until(pilot, lambda: "[b]no such thing[/b]" in seen(app))


async def test_redo_does_again_what_undo_took_back():
    app = app_on(lenet_session())
    async with app.run_test(size=(120, 40)) as pilot:
        await started(app, pilot)
        app.link.hear(Started(operation=Undo()), Finished(operation=Undo(), snapshot=snapshot(lenet_rows())))
        await until(pilot, lambda: app.situation.redo)
        await pilot.press("U")
        await until(pilot, lambda: app.link.sent)
        assert app.link.sent == [Redo()]


async def test_while_something_runs_only_stop_is_sent():
    app = app_on(lenet_session())
    async with app.run_test(size=(120, 40)) as pilot:
        await started(app, pilot)
        app.link.hear(Started(operation=Finetune(epochs=3)))
        await until(pilot, lambda: app.situation.running)
        await pilot.press("f", "p", "u", "o", "s")
        await until(pilot, lambda: app.link.sent)
        assert app.link.sent == [Stop()]
        assert said(app).count("finetune is running: s stops it") == 4
        assert isinstance(app.screen, BenchScreen)


async def test_the_bench_opens_with_the_question_what_to_open():
    app = app_on()
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: isinstance(app.screen, OpenScreen))
        await pilot.pause()
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, BenchScreen))
        assert app.desk.running == "load"
        await settled(app, pilot)
        assert app.link.sent == [LOAD]


async def test_a_load_that_was_given_needs_no_question():
    app = app_on(load=LOAD)
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(app, pilot)
        assert app.link.sent == [LOAD]
        assert isinstance(app.screen, BenchScreen)


async def test_a_recipe_is_done_by_its_own_keys():
    app = app_on(recipe=Recipe(title="lesson", steps=(LOAD, Note(text="look"))))
    async with app.run_test(size=(120, 40)) as pilot:
        await started(app, pilot)
        assert "lesson · next 1 of 2: open lenet-5 on digits" in seen(app)
        await pilot.press(":")
        await until(pilot, lambda: app.link.sent)
        app.link.hear(Started(operation=LOAD), Finished(operation=LOAD, snapshot=snapshot(lenet_rows())))
        await until(pilot, lambda: len(app.link.sent) == 2)
        assert app.link.sent == [LOAD, Note(text="look")]


def done(app):
    return [request for request in app.link.sent if isinstance(request, Prune | Finetune)]


async def test_a_prune_in_steps_is_done_step_by_step_with_finetuning_between():
    app = app_on(lenet_session())
    async with app.run_test(size=(120, 40)) as pilot:
        await started(app, pilot)
        app.settings.remember(Finetune(epochs=9, lr=0.01))
        await pilot.press("p")
        await until(pilot, lambda: isinstance(app.screen, OperationForm))
        await pilot.press("ctrl+t")
        for name, text in (("steps", "2"), ("epochs_between", "3")):
            one = next(field for field in app.screen.query(Field) if field.knob.name == name)
            one.take_focus()
            await pilot.pause()
            await pilot.press("home", "ctrl+k", text)
            await pilot.pause()
        await pilot.press("enter")
        await until(pilot, lambda: any(isinstance(request, Prune) for request in app.link.sent))
        steps = gradual(Prune(amount=0.5), Finetune(epochs=3, lr=0.01), 2, "linear")
        assert "prune all layers to 50 % (magnitude) · doing 1 of 4" in app.situation.recipe
        for number, step in enumerate(steps, 1):
            await until(pilot, lambda number=number: len(done(app)) == number)
            assert done(app) == list(steps[:number])
            app.link.hear(Started(operation=step), Finished(operation=step, snapshot=snapshot(lenet_rows())))
        await until(pilot, lambda: not app.situation.recipe)
        await pilot.press("p")
        await until(pilot, lambda: isinstance(app.screen, OperationForm))
        assert next(field for field in app.screen.query(Field) if field.knob.name == "steps").value == 1


async def test_which_layers_change_together_is_told_for_the_layer_under_the_cursor():
    app = app_on(lenet_session())
    async with app.run_test(size=(80, 24)) as pilot:
        await started(app, pilot)
        await pilot.press("j", "c")
        await until(pilot, lambda: app.link.sent)
        assert app.link.sent == [Groups()]
        known = len(app.desk.session.events)
        groups = (
            Coupled(layers=("conv1",), readers=("conv2",), channels=20),
            Coupled(layers=("conv2", "fc1"), readers=("fc2",), channels=50, why="they are added together", blocks=2),
            Coupled(layers=("fc2",), channels=10, refused="these outputs are the answers"),
        )
        app.link.hear(Grouped(groups=groups))
        await until(pilot, lambda: isinstance(app.screen, Reader))
        await pilot.pause()
        text = seen(app)
        assert text.index("conv2 + fc1: 50 filters") < text.index("conv2 loses inputs when these lose filters: conv1")
        assert "lose the same filters, because they are added together" in text
        assert "read in 2 groups: the same places go from each" in text
        assert text.index("The other groups") < text.index("cannot be cut: these outputs are the answers")
        assert len(app.desk.session.events) == known


async def test_the_mouse_does_what_keys_do():
    app = app_on(lenet_session())
    async with app.run_test(size=(120, 40)) as pilot:
        await started(app, pilot)
        table = app.bench.table
        await pilot.click(table, offset=(8, 3))
        assert table.current.name == "fc1"
        await pilot.click(table, offset=(8, 1), control=True)
        await pilot.click(table, offset=(0, 4))
        assert table.marks == {"conv1", "fc2"}
        await pilot.click(table, offset=(4, 0))
        assert (table.sort, table.backwards) == ("layer", False)
        await pilot.click(table, offset=(4, 0))
        assert [row.name for row in table.rows] == ["fc2", "fc1", "conv2", "conv1"]
        await pilot.click("#kinds", offset=(10, 0))
        assert app.bench.picture.kind == "accuracy"
        await pilot.click("#keys", offset=(14, 0))  # freeze stands after "space mark"
        await until(pilot, lambda: app.link.sent)


async def test_the_table_follows_a_run_and_the_status_says_how_far_it_is():
    app = app_on(running_session())
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: "finetune" in seen(app) and "epoch" in seen(app))
        text = seen(app)
        assert "epoch 5/5" in text
        assert "1,380 img/s" in text
        assert "20.0" in next(line for line in text.splitlines() if " conv1 " in line)
        assert "s stop" in text


async def test_a_small_terminal_shows_one_pane_and_tab_the_next():
    app = app_on(lenet_session())
    async with app.run_test(size=(80, 24)) as pilot:
        await started(app, pilot)
        assert "conv2" in seen(app)
        assert "whole model" in seen(app)
        await pilot.press("tab")
        await until(pilot, lambda: "epochs" in seen(app))
        assert "whole model" not in seen(app)
        await pilot.press("2")
        await until(pilot, lambda: "validation 9" in seen(app))
        await pilot.press("]")
        await until(pilot, lambda: "├" in seen(app))
        await pilot.click("#tabs", offset=(2, 0))
        await until(pilot, lambda: "whole model" in seen(app))


@pytest.mark.parametrize("size", [(39, 20), (60, 11)])
async def test_below_the_smallest_size_there_is_a_sentence(size):
    app = app_on(lenet_session())
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: "labbench needs 40×12" in seen(app))
        await pilot.resize_terminal(100, 30)
        await until(pilot, lambda: "conv2" in seen(app))


@pytest.mark.parametrize("width", [60, 72, 80, 95, 109, 110, 128, 159, 160, 200])
async def test_no_line_of_the_table_is_cut_at_any_width(width):
    app = app_on(resnet_session())
    async with app.run_test(size=(width, 40)) as pilot:
        await started(app, pilot)
        table = app.bench.table
        for row in table.rows:
            line = next(line for line in seen(app).splitlines() if f" {row.name} " in line)
            for placed in table._placed:
                assert placed.column.cell(row).strip() in line


@pytest.mark.parametrize("width", [60, 77, 80, 112, 130, 161])
async def test_columns_leave_room_for_the_scrollbar(width):
    app = app_on(resnet_session())
    async with app.run_test(size=(width, 22)) as pilot:
        await started(app, pilot)
        table = app.bench.table
        await until(pilot, lambda: table.show_vertical_scrollbar)
        last = table._placed[-1]
        await until(pilot, lambda: last.x + last.width <= table.scrollable_content_region.width)
        await pilot.press("G")
        await until(pilot, lambda: " fc " in seen(app))


async def test_the_history_leaves_room_for_its_scrollbar():
    app = app_on(lenet_session())
    async with app.run_test(size=(110, 24)) as pilot:
        await started(app, pilot)
        await until(pilot, lambda: app.bench._history.show_vertical_scrollbar)
        await until(pilot, lambda: "98.3 %" in seen(app) and "test 97.2 %" in seen(app))
        assert "4 histogram" in seen(app)


async def test_hostile_words_are_words():
    session = lenet_session(3)
    hostile = "[@click=app.quit]x[/] [bold]\x1b[31m[/"
    row = lenet_rows()[0]
    from msgspec.structs import replace

    session.append(5.0, Started(operation=Note(text=hostile)))
    session.append(6.0, Finished(operation=Note(text=hostile), snapshot=None))
    session.snapshot = snapshot((replace(row, name="[/b]conv[red]", last=hostile), row))
    app = app_on(session)
    async with app.run_test(size=(160, 40)) as pilot:
        await started(app, pilot)
        assert "[/b]conv[red]" in seen(app)
        app.link.hear(Failed(error=hostile, operation=Evaluate()))
        await until(pilot, lambda: hostile.replace("\x1b", "�") in said(app))
        await pilot.press("slash", "[", "enter", "enter")
        await until(pilot, lambda: isinstance(app.screen, Reader))
        await pilot.press("escape")
        assert "filter [" in seen(app)
        await pilot.press("tab", "tab", "enter")
        await until(pilot, lambda: isinstance(app.screen, Reader))
        assert "[@click=app.quit]x[/]" in seen(app)


async def test_a_death_is_told_once_and_a_second_one_offers_a_key():
    app = app_on(lenet_session())
    async with app.run_test(size=(120, 40)) as pilot:
        await started(app, pilot)
        app.link.gone = True
        app.link.hear(Died(error="the worker was ended by SIGKILL (log: x)"))
        await until(pilot, lambda: app.situation.worker == "gone")
        assert said(app).count("the worker was ended by SIGKILL (log: x)") == 1
        await pilot.press("p")
        assert any("ctrl+r" in sentence for sentence in said(app))
        await until(pilot, lambda: "^r restore" in seen(app))
        await pilot.press("ctrl+r")
        await until(pilot, lambda: app.situation.worker == "starting")


async def test_a_long_restoring_can_be_stopped_and_tried_again():
    session = lenet_session()
    app = app_on(session)
    async with app.run_test(size=(120, 40)) as pilot:
        await settled(app, pilot)
        app.desk.restore()
        app.touch()
        await until(pilot, lambda: "s stop" in seen(app))
        await pilot.press("s")
        await until(pilot, lambda: app.link.sent[-1:] == [Stop()])
        app.link.hear(Failed(error="stopped; what was done again is kept"))
        await until(pilot, lambda: app.situation.worker == "unrestored")
        await pilot.press("t")
        assert "the session is not restored: ctrl+r tries again, o opens another" in said(app)
        await pilot.press("ctrl+r")
        await until(pilot, lambda: app.link.sent[-1:] == [session.restore()])


async def test_quitting_a_run_asks_and_staying_stays():
    app = app_on(lenet_session())
    async with app.run_test(size=(120, 40)) as pilot:
        await started(app, pilot)
        app.link.hear(Started(operation=Finetune()))
        await until(pilot, lambda: app.situation.running)
        await pilot.press("q")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        await pilot.press("n")
        await until(pilot, lambda: isinstance(app.screen, BenchScreen))
        assert not app.link.closed
        await pilot.press("q")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        await pilot.press("y")
        await until(pilot, lambda: app.link.closed and not app.is_running)


async def test_ctrl_c_twice_quits_even_over_a_form():
    app = app_on(lenet_session())
    async with app.run_test(size=(120, 40)) as pilot:
        await started(app, pilot)
        await pilot.press("p")
        await until(pilot, lambda: isinstance(app.screen, OperationForm))
        await pilot.press("ctrl+c")
        assert not app.link.closed
        await pilot.press("ctrl+c")
        await until(pilot, lambda: not app.is_running)
        assert app.link.closed


async def test_help_and_palette_have_every_action():
    app = app_on(lenet_session())
    async with app.run_test(size=(120, 40)) as pilot:
        await started(app, pilot)
        titles = [command.title for command in app.get_system_commands(app.bench)]
        assert "prune (p)" in titles
        assert "next step (→)" not in titles
        await pilot.press("?")
        await until(pilot, lambda: isinstance(app.screen, HelpScreen))


async def test_an_export_is_told():
    app = app_on(lenet_session())
    async with app.run_test(size=(120, 40)) as pilot:
        await started(app, pilot)
        app.link.hear(Exported(path="/tmp/[x].onnx", size=1_700_000, gzipped=340_000, remarks=("takes images",)))
        words = "the model is in /tmp/[x].onnx: 1,700,000 bytes, 340,000 gzipped\ntakes images"
        await until(pilot, lambda: words in said(app))


async def test_the_export_form_says_what_the_ending_means_and_refuses_others(tmp_path):
    app = app_on(lenet_session())
    async with app.run_test(size=(120, 40)) as pilot:
        await started(app, pilot)
        await pilot.press("x")
        await until(pilot, lambda: isinstance(app.screen, PathForm))
        path, state = app.screen.query_one(Input), app.screen.query_one("#state")
        for suffix, kind in EXPORT_FORMATS.items():
            path.value = str(tmp_path / f"model{suffix}")
            await until(pilot, lambda kind=kind: str(state.render()).startswith(f"{kind} (or end in "))
        path.value = str(tmp_path / "model.zip")
        await until(pilot, lambda: "the ending says the format: .safetensors, .pth" in str(state.render()))
        await pilot.press("enter")
        assert isinstance(app.screen, PathForm) and not app.link.sent
        path.value = str(tmp_path / "model.onnx")
        await pilot.press("enter")
        await until(pilot, lambda: app.link.sent == [Export(path=str(tmp_path / "model.onnx"))])


async def test_a_bug_ends_in_one_sentence_and_a_traceback_in_the_log(tmp_path):
    app = app_on(lenet_session(), log=tmp_path / "log")
    with pytest.raises(ZeroDivisionError):
        async with app.run_test(size=(120, 40)) as pilot:
            await started(app, pilot)
            app.call_later(lambda: 1 // 0)
            await until(pilot, lambda: not app.is_running)
    assert "ZeroDivisionError" in (tmp_path / "log").read_text()
    assert "Traceback" in (tmp_path / "log").read_text()


async def test_the_session_is_written_as_it_happens(tmp_path):
    app = app_on(load=LOAD, session_path=tmp_path / "lesson.jsonl")
    async with app.run_test(size=(120, 40)) as pilot:
        await settled(app, pilot)
        app.link.hear(Started(operation=LOAD), Finished(operation=LOAD, snapshot=snapshot(lenet_rows())))
        await until(pilot, lambda: "● lesson.jsonl · 1 operation" in seen(app))
        assert len((tmp_path / "lesson.jsonl").read_text().splitlines()) == 3


async def test_a_player_plays_pauses_and_steps_both_ways():
    app = app_on(recording=lenet_session())
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: app.playback.player.position > 2)
        await pilot.press("space")
        await until(pilot, lambda: app.playback.player.paused)
        for _ in range(6):
            await pilot.press("right")
        await until(pilot, lambda: "Half of the weights are gone" in seen(app))
        assert "‖ paused" in seen(app)
        steps = len(app.playback.session.steps)
        await pilot.press("left")
        assert len(app.playback.session.steps) == steps - 1
        await pilot.press("p", "f")
        await until(pilot, lambda: len(said(app)) == 2)
        assert all("this is a recording" in sentence for sentence in said(app))
        await pilot.press("right", "enter")
        await until(pilot, lambda: isinstance(app.screen, Reader))
        await pilot.press("escape", "+", "+", "-")
        assert app.playback.player.speed == 2.0
        while not app.playback.player.ended:
            await pilot.press("right")
        await until(pilot, lambda: "■ end" in seen(app))
        assert app.playback.session.changes == lenet_session().changes
        assert not app.link.sent


async def test_after_a_stopped_run_t_goes_on_with_it():
    session = lenet_session()
    stopped = Finetune(epochs=9, lr=0.3, steps=40)
    session.append(90.0, Started(operation=stopped))
    session.append(91.0, Finished(operation=stopped, snapshot=snapshot(lenet_rows())))
    app = app_on(session)
    async with app.run_test(size=(120, 40)) as pilot:
        await settled(app, pilot)
        await pilot.press("t")
        await until(pilot, lambda: "goes on with the run that was stopped" in seen(app))
        await pilot.press("enter")
        await until(pilot, lambda: app.link.sent)
        assert app.link.sent == [Finetune(resume=True)]
        assert app.settings.last("finetune").get("lr") != 0.3
        done = Finetune(resume=True, epochs=9, lr=0.3)
        app.link.hear(Started(operation=done), Finished(operation=done, snapshot=snapshot(lenet_rows())))
        await until(pilot, lambda: "resumed)" in seen(app))
        await pilot.press("t")
        await until(pilot, lambda: isinstance(app.screen, OperationForm))
        assert app.screen.operation is not None
        assert not app.screen.operation.resume


async def test_capital_r_asks_how_to_recalibrate():
    app = app_on(resnet_session())
    async with app.run_test(size=(120, 40)) as pilot:
        await settled(app, pilot)
        await pilot.press("R")
        await until(pilot, lambda: "batch norm anew" in seen(app))
        await pilot.press("enter")
        await until(pilot, lambda: app.link.sent)
    assert app.link.sent == [Recalibrate()]

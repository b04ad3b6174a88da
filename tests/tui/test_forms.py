"""Keys in, operation out: the forms that are built from the catalogue."""

import msgspec
import pytest
from bench_data import ROWS, catalogue, entry, snapshot
from hosting import PENDING, Host, seen, type_in, until
from textual.widgets import Static

from labbench.session.catalogue import Knob
from labbench.session.events import Previewed
from labbench.session.operations import (
    OPERATIONS,
    Cluster,
    Evaluate,
    Finetune,
    Freeze,
    Load,
    Prune,
    Recalibrate,
    Unprune,
)
from labbench.tui import values
from labbench.tui.advanced import Advanced, More
from labbench.tui.fields import Field
from labbench.tui.preview import PreviewPanel
from labbench.tui.screens.form import OperationForm

MADE_UP = entry(
    "made-up",
    "A method that no front end has heard of",
    Knob(name="rounds", kind="int", default=3, low=1, high=9, help="how often"),
    Knob(name="share", kind="float", default=0.25, low=0, high=1, help="how much at once"),
    Knob(name="signed", kind="bool", default=False, help="whether signs count"),
    Knob(name="order", kind="choice", default="up", choices=("up", "down"), help="which end first"),
    granularity="weight",
)


def form(operation, *, layers=(), last=None, methods=()):
    return OperationForm(operation, catalogue(*methods), snapshot(), layers, last)


def field(screen, name):
    return next(one for one in screen.query(Field) if one.knob.name == name)


async def fill(pilot, screen, name, text):
    field(screen, name).take_focus()
    await pilot.pause()
    await pilot.press("home", "ctrl+k")
    await type_in(pilot, text)
    await pilot.pause()


async def test_enter_prunes_the_marked_layers_to_the_amount_that_was_typed():
    screen = form("prune", layers=("conv1", "conv2"))
    app = Host(screen)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: app.asked)
        await type_in(pilot, "30%")
        await pilot.press("enter")
        await until(pilot, lambda: app.result is not PENDING)
    assert app.result == Prune(layers=("conv1", "conv2"), amount=0.3)


@pytest.mark.parametrize("text", ["0.3", "30%", "30 %", "0,3", ".3"])
async def test_an_amount_is_a_fraction_or_a_percentage(text):
    screen = form("prune")
    app = Host(screen)
    async with app.run_test(size=(80, 24)) as pilot:
        await fill(pilot, screen, "amount", text)
        assert screen.operation == Prune(amount=0.3)
        assert ("= 0.3" if "%" in text else "= 30 %") in seen(app)


@pytest.mark.parametrize(
    ("name", "knob", "text", "meant"),
    [
        ("prune", "amount", "50", "50 %"),
        ("prune", "amounts", "conv1=30, fc*=0.5", "conv1=30 %, fc*=0.5"),
        ("scan", "at", "10 30,50 0.9", "10 % 30 %,50 % 0.9"),
        ("freeze", "first", "12.5", "12.5 %"),
        ("finetune", "label_smoothing", "10", "10 %"),
        ("cluster", "fraction", "25", "25 %"),
    ],
)
async def test_a_number_that_was_meant_in_percent_is_asked_about_and_enter_says_yes(name, knob, text, meant):
    screen = form(name, layers=("conv1",))
    app = Host(screen)
    async with app.run_test(size=(80, 40)) as pilot:
        await pilot.press("ctrl+t")
        await fill(pilot, screen, knob, text)
        await until(pilot, lambda: f"✗ {meant}? enter says yes" in seen(app))
        await pilot.press("enter")
        await until(pilot, lambda: not field(screen, knob).problem)
        assert field(screen, knob)._control.value == meant
        assert app.result is PENDING  # it is shown with its preview before it is done
        await pilot.press("enter")
        await until(pilot, lambda: app.result is not PENDING)
    written = {"0.5": 0.5, "50 %": 0.5, "12.5 %": 0.125, "10 %": 0.1, "25 %": 0.25}
    numbers = {"amounts": {"conv1": 0.3, "fc*": 0.5}, "at": (0.1, 0.3, 0.5, 0.9)}
    assert getattr(app.result, knob) == numbers.get(knob, written.get(meant))


@pytest.mark.parametrize("text", ["-0.1", "nan", "1e9", "half", "150", ""])
async def test_a_wrong_amount_is_refused_with_a_sentence_that_says_what_is_right(text):
    screen = form("prune")
    app = Host(screen)
    async with app.run_test(size=(80, 24)) as pilot:
        await fill(pilot, screen, "amount", text)
        assert "✗ must be a number from 0 to 1, such as 0.3 or 30 %" in seen(app)
        await pilot.press("enter")
        await pilot.pause()
        assert app.result is PENDING
        await fill(pilot, screen, "amount", "1")
        await pilot.press("enter")
        await until(pilot, lambda: app.result is not PENDING)
    assert app.result == Prune(amount=1.0)


async def test_enter_on_advanced_shows_it_and_does_nothing_else():
    screen = form("prune")
    app = Host(screen)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        screen.query_one(More).focus()
        await pilot.press("enter")
        await until(pilot, lambda: screen.query_one(Advanced).has_class("-open"))
        assert app.result is PENDING


async def test_a_form_says_how_many_layers_are_meant():
    for layers, said in ((("*",), "all 5 layers"), (("conv1", "fc*"), "4 of 5 layers")):
        app = Host(form("prune", layers=layers))
        async with app.run_test(size=(80, 24)) as pilot:
            await until(pilot, lambda said=said, app=app: said in seen(app))


@pytest.mark.parametrize(
    ("name", "planned", "seen_in"),
    [("prune", {"amounts": {"conv1": 0.3}}, "conv1=0.3"), ("cluster", {"ks": {"conv1": 4}}, "conv1=4")],
)
async def test_a_plan_is_seen_in_the_form(name, planned, seen_in):
    app = Host(form(name, layers=("conv1",), last=planned))
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: seen_in in seen(app))
        assert app.focused.value == seen_in


async def test_escape_and_cancel_give_nothing():
    for key in ("escape", "cancel"):
        app = Host(form("prune"))
        async with app.run_test(size=(80, 24)) as pilot:
            await pilot.pause()
            if key == "escape":
                await pilot.press("escape")
            else:
                await pilot.click("#cancel")
            await until(pilot, lambda app=app: app.result is not PENDING)
        assert app.result is None


async def test_the_mouse_alone_can_prune():
    app = Host(form("prune"))
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        await pilot.click(field(app.first, "scope")._control, offset=(12, 0))
        await pilot.pause()
        await pilot.click("#submit")
        await until(pilot, lambda: app.result is not PENDING)
    assert app.result == Prune(scope="global")


async def test_up_and_down_step_the_amount_and_stay_inside_its_range():
    screen = form("prune", layers=("*",), last={"amount": 0.95})
    app = Host(screen)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: app.asked)
        await pilot.press("up", "up", "up")
        assert screen.operation.amount == 1.0
        await pilot.press("down")
        assert screen.operation.amount == 0.95


RULE = entry(
    "rule",
    "A method with a rule of its own",
    Knob(name="limit", kind="float", default=0.5, low=0, help="below this"),
    granularity="weight",
    own_target=True,
)


async def test_a_method_with_a_rule_of_its_own_is_not_asked_for_an_amount():
    screen = form(
        "prune", layers=("conv1",), last={"amount": 0.9, "method": "rule", "scope": "global"}, methods=(RULE,)
    )
    app = Host(screen)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: app.asked)
        shown = {one.knob.name for one in screen.query(Field) if one.display}
        assert shown == {"layers", "method", "limit", "seed"}
        assert screen.operation == Prune(layers=("conv1",), method="rule")


async def test_multiples_are_asked_for_where_filters_go_and_amounts_where_layers_are_cut_alone():
    screen = form("prune", last={"method": "group-magnitude"})
    app = Host(screen)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: app.asked)
        assert field(screen, "round_to").display and field(screen, "amounts").display
        field(screen, "scope").take_focus()
        await pilot.press("right")
        await until(pilot, lambda: not field(screen, "amounts").display)
        field(screen, "method").take_focus()
        await pilot.press("r")
        await until(pilot, lambda: not field(screen, "round_to").display)


async def test_a_method_that_counts_in_each_layer_is_not_asked_for_a_scope():
    counts = entry("counts", "A method that counts in each layer", granularity="filter", in_layers=True)
    screen = form("prune", last={"method": "counts", "scope": "global"}, methods=(counts,))
    app = Host(screen)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: app.asked)
        assert not field(screen, "scope").display and field(screen, "amounts").display
        assert screen.operation == Prune(method="counts", scope="layer")


@pytest.mark.parametrize(
    ("text", "amounts"),
    [
        ("conv1=0.1 layer1.*=30%", {"conv1": 0.1, "layer1.*": 0.3}),
        ("conv1=0.1, fc*=1", {"conv1": 0.1, "fc*": 1.0}),
        ("conv1=10 %", {"conv1": 0.1}),
        ("", {}),
    ],
)
async def test_amounts_by_name_are_written_in_one_line(text, amounts):
    screen = form("prune")
    app = Host(screen)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: app.asked)
        await pilot.press("ctrl+t")
        await fill(pilot, screen, "amounts", text)
        assert screen.operation == Prune(amounts=amounts)
        knob = field(screen, "amounts").knob
        assert values.parse(knob, values.show(knob, amounts)) == amounts


@pytest.mark.parametrize("text", ["conv1", "=0.3", "conv1=2", "conv1=x", "conv1 0.3", "conv1=-1"])
async def test_wrong_amounts_are_refused_with_a_sentence_that_says_what_is_right(text):
    screen = form("prune")
    app = Host(screen)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: app.asked)
        await pilot.press("ctrl+t")
        await fill(pilot, screen, "amounts", text)
        assert screen.operation is None
        assert "must be names with numbers from 0 to 1, such as layer1.*=0.3" in field(screen, "amounts").problem


@pytest.mark.parametrize(
    ("text", "ks"),
    [("conv1=4 layer1.*=8", {"conv1": 4, "layer1.*": 8}), ("fc*=1,conv[1,2]=2", {"fc*": 1, "conv[1,2]": 2})],
)
async def test_k_by_name_is_written_in_one_line(text, ks):
    screen = form("cluster", layers=("conv1", "conv2"))
    app = Host(screen)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: app.asked)
        await pilot.press("ctrl+t")
        await fill(pilot, screen, "ks", text)
        assert screen.operation == Cluster(layers=("conv1", "conv2"), ks=ks)
        knob = field(screen, "ks").knob
        assert values.parse(knob, values.show(knob, ks)) == ks


@pytest.mark.parametrize("text", ["conv1", "=3", "conv1=-2", "conv1=x", "conv1 3", "conv1=1.5", "conv1=10%"])
async def test_a_wrong_k_by_name_is_refused_with_a_sentence_that_says_what_is_right(text):
    screen = form("cluster", layers=("conv1",))
    app = Host(screen)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: app.asked)
        await pilot.press("ctrl+t")
        await fill(pilot, screen, "ks", text)
        assert screen.operation is None
        assert field(screen, "ks").problem == "must be names with whole numbers from 0, such as layer1.*=8 conv1=4"


async def test_the_knobs_of_the_chosen_method_appear_and_go():
    screen = form("prune")
    app = Host(screen)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: app.asked)
        assert "which norm" not in seen(app)
        field(screen, "method").take_focus()
        await pilot.press("g")
        await until(pilot, lambda: "which norm" in seen(app))
        field(screen, "p").take_focus()
        await pilot.press("left")
        assert screen.operation == Prune(method="group-magnitude", options={"p": 1})
        field(screen, "method").take_focus()
        await pilot.press("r")
        await until(pilot, lambda: "which norm" not in seen(app))
        assert screen.operation == Prune(method="random")


async def test_a_method_nobody_knew_appears_with_all_its_knobs():
    screen = form("prune", methods=(MADE_UP,))
    app = Host(screen)
    async with app.run_test(size=(120, 40)) as pilot:
        field(screen, "method").take_focus()
        await pilot.press("end")
        await until(pilot, lambda: len(list(screen.query("#options Field"))) == 4)
        for name in ("rounds", "share", "signed", "order"):
            assert name in seen(app)
        await fill(pilot, screen, "rounds", "12")
        assert "✗ must be a whole number from 1 to 9" in seen(app)
        await fill(pilot, screen, "rounds", "5")
        await fill(pilot, screen, "share", "50%")
        for name in ("signed", "order"):
            field(screen, name).take_focus()
            await pilot.press("space")
        await pilot.press("enter")
        await until(pilot, lambda: app.result is not PENDING)
    options = {"rounds": 5, "share": 0.5, "signed": True, "order": "down"}
    assert app.result == Prune(method="made-up", options=options)


async def test_layers_are_counted_and_an_unknown_one_is_refused_with_a_guess():
    screen = form("freeze", layers=("conv1",))
    app = Host(screen)
    async with app.run_test(size=(80, 24)) as pilot:
        await fill(pilot, screen, "layers", "conv*, fc3")
        assert "3 of 5 layers" in seen(app)
        assert screen.operation == Freeze(layers=("conv*", "fc3"))
        await fill(pilot, screen, "layers", "cnov1")
        assert "no layer matches cnov1; did you mean conv1?" in seen(app)
        assert screen.operation is None
        await fill(pilot, screen, "layers", "")
        assert "name at least one layer" in seen(app)


async def test_cluster_asks_for_a_fraction_only_while_k_is_zero():
    screen = form("cluster", layers=("conv2",))
    app = Host(screen)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: app.asked)
        assert field(screen, "fraction").display
        await fill(pilot, screen, "k", "4")
        assert not field(screen, "fraction").display
        assert screen.operation == Cluster(layers=("conv2",), k=4)


async def test_finetune_shows_milestones_only_for_the_multi_step_schedule():
    screen = form("finetune")
    app = Host(screen)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "steps an epoch" in seen(app))
        assert not field(screen, "milestones").display
        field(screen, "schedule").take_focus()
        await pilot.press("m")
        await until(pilot, lambda: field(screen, "milestones").display)
        await fill(pilot, screen, "milestones", "3, 5")
        await fill(pilot, screen, "epochs", "8")
        await fill(pilot, screen, "lr", "0.01")
        await pilot.press("up")
        assert screen.operation == Finetune(epochs=8, lr=0.02, schedule="multi-step", milestones=(3, 5))


@pytest.mark.parametrize(
    ("name", "choice", "shown", "gone"),
    [
        ("schedule", "plateau", {"gamma", "watch", "patience", "warmup"}, {"milestones", "last"}),
        ("schedule", "ramp", {"last"}, {"gamma", "watch", "patience", "milestones", "warmup"}),
        ("regularizer", "l1", {"strength", "penalized"}, set()),
        ("regularizer", "", set(), {"strength", "penalized"}),
        ("optimizer", "adam", set(), {"nesterov"}),
        ("loss", "scaled-softmax", {"scale"}, set()),
        ("distill", 0.5, {"temperature"}, set()),
    ],
)
async def test_finetune_shows_the_fields_that_matter_for_what_is_chosen(name, choice, shown, gone):
    screen = form("finetune", last={name: choice})
    app = Host(screen)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "steps an epoch" in seen(app))
        displayed = {one.knob.name for one in screen.query(Field) if one.display}
        assert shown <= displayed
        assert not gone & displayed
        assert screen.operation == Finetune(**{name: choice})


async def test_after_a_stopped_run_finetune_offers_to_go_on_with_it_and_asks_for_nothing_else():
    screen = form("finetune", last={"lr": 0.02, "resume": True})
    app = Host(screen)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "goes on with the run that was stopped" in seen(app))
        assert [one.knob.name for one in screen.query(Field) if one.display] == ["resume"]
        assert screen.operation == Finetune(resume=True)
        await pilot.press("ctrl+t", "right")
        await until(pilot, lambda: "steps an epoch" in seen(app))
        assert screen.operation == Finetune(lr=0.02)
        await pilot.press("left", "enter")
        await until(pilot, lambda: app.result is not PENDING)
    assert app.result == Finetune(resume=True)


async def test_a_regularizer_is_chosen_from_its_menu_and_none_is_the_first():
    screen = form("finetune")
    app = Host(screen)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "steps an epoch" in seen(app))
        assert "● none" in seen(app)
        field(screen, "regularizer").take_focus()
        await pilot.press("h")
        await until(pilot, lambda: field(screen, "strength").display)
        await fill(pilot, screen, "strength", "0.001")
        assert screen.operation == Finetune(regularizer="hoyer", strength=0.001)


async def test_recalibrate_says_how_many_images_it_looks_at():
    screen = form("recalibrate")
    app = Host(screen)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "1,280 training images" in seen(app))
        await fill(pilot, screen, "batches", "9")
        assert "✗ must be a whole number from 10" in seen(app)
        await fill(pilot, screen, "batches", "10")
        assert screen.operation == Recalibrate(batches=10)


async def test_finetune_says_how_many_steps_the_run_will_take_and_asks_for_no_preview():
    screen = form("finetune", last={"epochs": 5})
    app = Host(screen)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "16 steps an epoch, 80 in all" in seen(app))
    assert app.asked == []


async def test_rare_fields_are_hidden_until_they_are_asked_for_and_can_all_be_reached():
    screen = form("finetune")
    app = Host(screen)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        assert not field(screen, "seed").region.height
        await pilot.press("ctrl+t")
        await pilot.pause()
        reached = set()
        for _ in range(40):
            holder = next((one for one in app.focused.ancestors if isinstance(one, Field)), None)
            if holder:
                reached.add(holder.knob.name)
                await until(pilot, lambda: app.focused.region in screen.query_one("#fields").region)
            await pilot.press("tab")
            await pilot.pause()
        hidden = {"resume", "milestones", "gamma", "watch", "patience", "last"}
        hidden |= {"strength", "penalized", "scale", "temperature"}
        assert reached == {knob.name for knob in catalogue().entry("operations", "finetune").knobs} - hidden
        await fill(pilot, screen, "seed", "7")
        assert screen.operation == Finetune(seed=7)


async def test_every_operation_with_fields_can_be_formed_with_the_last_values():
    made = (
        Load(model="resnet-20", dataset="shapes", options={"shortcut": "B"}, seed=3, device="cpu"),
        Freeze(layers=("conv1",), norms=False),
        Unprune(layers=("conv*",)),
        Prune(layers=("conv1",), amount=0.7, method="group-magnitude", scope="global", options={"p": 1}, seed=4),
        Cluster(layers=("conv2",), fraction=0.25, seed=1),
        Finetune(epochs=3, optimizer="adam", lr=0.001, schedule="multi-step", milestones=(1, 2), gamma=0.5, seed=9),
        Evaluate(split="validation"),
    )
    for operation in made:
        raw = msgspec.to_builtins(operation)
        name = raw.pop("op")
        screen = form(name, last=raw)
        app = Host(screen)
        async with app.run_test(size=(80, 24)) as pilot:
            await until(pilot, lambda screen=screen: screen.operation is not None)
            assert screen.operation == operation
    assert all(form(name) for name, kind in OPERATIONS.items() if msgspec.structs.fields(kind))


async def test_a_last_value_that_is_no_longer_right_gives_way_to_the_default():
    screen = form("prune", last={"amount": 7, "method": "gone", "scope": "sideways", "options": {"p": 9}})
    app = Host(screen)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: app.asked)
    assert app.asked == [Prune()]


async def test_a_preview_is_asked_for_at_the_start_and_once_after_typing(monkeypatch):
    monkeypatch.setattr("labbench.tui.screens.form.PAUSE", 1.0)  # a slow machine types slowly
    screen = form("prune", layers=("conv1",))
    app = Host(screen)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: len(app.asked) == 1)
        await type_in(pilot, "0.75")
        await until(pilot, lambda: len(app.asked) == 2)
    assert app.asked == [Prune(layers=("conv1",)), Prune(layers=("conv1",), amount=0.75)]


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_a_preview_shows_what_changes_before_and_after(size):
    screen = form("prune")
    app = Host(screen)
    rows = (
        msgspec.structs.replace(ROWS[0], nonzero=75, masked=True),
        msgspec.structs.replace(ROWS[1], nonzero=600, filters_unique=13, masked=True),
        *ROWS[2:],
    )
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: app.asked)
        event = Previewed(operation=Prune(), snapshot=snapshot(rows), remarks=("[@click=app.quit]fc3[/] left out",))
        screen.show_preview(event)
        await pilot.pause()
        text = seen(app)
        assert "sparsity 0 % → 3.1 %" in text
        assert "0 % → 50 %" in text and "0 % → 75 %" in text
        assert "16 → 13" in text
        assert "no faster" in text
        assert "[@click=app.quit]fc3[/] left out" in text
        screen.query_one(PreviewPanel).scroll_end(animate=False)
        await until(pilot, lambda: "3 other layers as before" in seen(app))


async def test_what_a_preview_remarks_is_in_sight_on_a_small_terminal():
    screen = form("cluster", layers=("*",))
    app = Host(screen)
    remark = "conv1 was pruned: its zeros are not held any more, 90 % of it becomes 2.9 %"
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: app.asked)
        rows = tuple(msgspec.structs.replace(row, filters_unique=3, clusters=3) for row in ROWS)
        screen.show_preview(Previewed(operation=app.asked[0], snapshot=snapshot(rows), remarks=(remark,)))
        await until(pilot, lambda: remark in " ".join(seen(app).replace("│", " ").split()))


async def test_a_preview_is_laid_out_anew_for_another_width():
    screen = form("prune")
    app = Host(screen)
    rows = tuple(msgspec.structs.replace(row, nonzero=row.nonzero // 3, masked=True, inputs=7) for row in ROWS)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: app.asked)
        screen.show_preview(Previewed(operation=Prune(), snapshot=snapshot(rows)))
        await pilot.pause()
        screen.query_one(PreviewPanel).scroll_end(animate=False)
        await until(pilot, lambda: "non-zero" in seen(app))
        await pilot.resize_terminal(120, 40)
        await until(pilot, lambda: screen.query_one(PreviewPanel).size.width < 60)
        await pilot.pause()
        shown = screen.query_one(PreviewPanel).query_one(Static)
        assert shown.size.height == len(str(shown.content).splitlines())  # no line of the table is wrapped
        assert "zeros held" in seen(app) and "fc3" in seen(app)


async def test_a_preview_of_a_cut_shows_channels_parameters_and_macs():
    screen = form("prune")
    app = Host(screen)
    cut = msgspec.structs.replace(
        ROWS[0], shape=(3, 1, 5, 5), channels=3, filters_unique=3, weights=75, parameters=78, nonzero=75
    )
    after = msgspec.structs.replace(snapshot((cut, *ROWS[1:])), macs=200_000)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: app.asked)
        screen.show_preview(Previewed(operation=Prune(), snapshot=after))
        await pilot.pause()
        text = seen(app)
    assert "parameters 61,706 → 61,628" in text
    assert "MACs 417 k → 200 k" in text
    assert "6 → 3" in text


async def test_no_figures_of_other_values_stay_while_a_value_is_wrong_and_it_is_asked_again_after():
    screen = form("prune", layers=("conv1",))
    app = Host(screen)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: app.asked)
        screen.show_preview(Previewed(operation=Prune(layers=("conv1",)), remarks=("the first answer",)))
        await until(pilot, lambda: "the first answer" in seen(app))
        await type_in(pilot, "-7")
        await until(pilot, lambda: "no preview until every field is right" in seen(app))
        assert "the first answer" not in seen(app)
        await fill(pilot, screen, "amount", "0.5")
        await until(pilot, lambda: len(app.asked) == 2)
        assert "preview …" in seen(app) and "the first answer" not in seen(app)


@pytest.mark.parametrize("answer", ["late", "failed", "worker died"])
async def test_no_figures_of_another_method_are_shown(answer):
    screen = form("prune", layers=("conv1",))
    app = Host(screen)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: app.asked)
        first = app.asked[0]
        screen.show_preview(Previewed(operation=first, remarks=("figures of magnitude",)))
        await until(pilot, lambda: "figures of magnitude" in seen(app))
        field(screen, "method").take_focus()
        await pilot.press("right")
        await until(pilot, lambda: "figures of magnitude" not in seen(app))
        assert "preview …" in seen(app) and "tried on a copy" in seen(app)
        await until(pilot, lambda: len(app.asked) == 2)
        if answer == "late":  # the answer to what is no longer asked
            screen.show_preview(Previewed(operation=first, remarks=("figures of magnitude",)))
            await pilot.pause()
            assert "preview …" in seen(app)
        elif answer == "failed":
            screen.show_preview(Previewed(operation=app.asked[1], error="conv1 has no filters to rank"))
            await until(pilot, lambda: "✗ conv1 has no filters to rank" in seen(app))
        else:
            screen.lose_preview("no preview: the worker died")
            await until(pilot, lambda: "✗ no preview: the worker died" in seen(app))
        assert "figures of magnitude" not in seen(app)


async def test_values_that_come_back_are_previewed_again():
    screen = form("prune", layers=("conv1",))
    app = Host(screen)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: app.asked)
        field(screen, "scope").take_focus()
        await pilot.press("right", "left")
        await until(pilot, lambda: len(app.asked) == 2)
        assert app.asked[1] == app.asked[0]


async def test_a_refused_preview_shows_the_reason():
    screen = form("prune")
    app = Host(screen)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: app.asked)
        screen.show_preview(Previewed(operation=Prune(), error="cannot prune conv1: frozen; unfreeze first"))
        await until(pilot, lambda: "✗ cannot prune conv1: frozen; unfreeze first" in seen(app))


@pytest.mark.parametrize(
    "name", ["freeze", "unfreeze", "prune", "unprune", "cluster", "finetune", "recalibrate", "evaluate", "load"]
)
async def test_the_buttons_are_always_in_sight(name):
    screen = form(name)
    app = Host(screen)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("ctrl+t")
        await pilot.pause()
        for button in ("#submit", "#cancel"):
            region = screen.query_one(button).region
            assert region.height == 1 and region.y < 24


async def test_a_long_name_of_a_knob_is_not_cut():
    long = entry("long", "A method", Knob(name="initial_temperature", kind="int", default=3, help="how hot"))
    screen = form("prune", methods=(long,), last={"method": "long"})
    app = Host(screen)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "initial temperature" in seen(app))

"""Where work begins: a model on data, or a file to go on with."""

import os
from pathlib import Path

import pytest
from bench_data import ENVIRONMENT, catalogue
from hosting import PENDING, Host, seen, type_in, until
from sample import lenet_events
from textual.widgets import Input

from labbench.published import IDX_FILES
from labbench.session.catalogue import shipped
from labbench.session.events import Ready
from labbench.session.jsonl import Header, encode
from labbench.session.operations import Load
from labbench.tui.advanced import Advanced, More
from labbench.tui.fields import Field
from labbench.tui.last_figures import last_figures
from labbench.tui.menu import Menu
from labbench.tui.screens.open import OpenScreen


def opening(tmp_path, *, environment=None, last=None):
    return OpenScreen(catalogue(), environment, tmp_path / "sessions", last, tmp_path / "data")


def session_file(tmp_path, name, title):
    path = tmp_path / "sessions" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(encode(Header(labbench=1, title=title, created="2026-01-01T00:00:00")))
    return path


def write_events(path, events):
    with path.open("ab") as file:
        for timed in events:
            file.write(encode(timed))


async def result_of(screen, *keys, size=(80, 24)):
    app = Host(screen)
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        await pilot.press(*keys)
        await until(pilot, lambda: app.result is not PENDING)
    return app.result


async def test_enter_on_a_fresh_start_opens_lenet_5_on_digits(tmp_path):
    assert await result_of(opening(tmp_path), "enter") == Load(model="lenet-5", dataset="digits")


async def test_arrows_choose_model_data_and_device(tmp_path):
    screen = opening(tmp_path, environment=ENVIRONMENT)
    keys = ("down", "down", "right", "down", "right", "end", "enter")
    assert await result_of(screen, *keys) == Load(model="resnet-20", dataset="shapes", device="cuda:0")


async def test_the_last_choice_is_chosen_again(tmp_path):
    last = Load(model="resnet-20", dataset="cifar10", options={"shortcut": "B"}, seed=5, device="cuda:0")
    assert await result_of(opening(tmp_path, last=last), "enter") == last


async def test_a_models_own_options_appear_with_it(tmp_path):
    screen = opening(tmp_path)
    app = Host(screen)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("down", "down")
        await until(pilot, lambda: screen.query("#options Field"))
        next(iter(screen.query("#options Field").results(Field))).take_focus()
        await pilot.press("B", "enter")
        await until(pilot, lambda: app.result is not PENDING)
    assert app.result == Load(model="resnet-20", dataset="digits", options={"shortcut": "B"})


async def test_every_shipped_model_can_be_reached_in_the_menu_and_is_seen(tmp_path):
    models = [entry.name for entry in shipped().models]
    screen = OpenScreen(shipped(), None, tmp_path / "sessions", None, tmp_path / "data")
    app = Host(screen)
    seen_names = []
    async with app.run_test(size=(80, 24)) as pilot:
        for name in models:
            await until(pilot, lambda name=name: f"● {name} " in seen(app))
            seen_names.append(screen.query_one("#model", Menu).value)
            await pilot.press("down")
        assert len(models) > screen.query_one("#model", Menu).size.height
        await pilot.press("end", "up", "enter")
        await until(pilot, lambda: app.result is not PENDING)
    assert seen_names == models
    assert app.result == Load(model=models[-1], dataset="digits")


async def test_figures_stand_beside_the_scroll_bar_not_under_it(tmp_path):
    last = Load(model="cp-resnet", dataset="digits")
    app = Host(OpenScreen(shipped(), None, tmp_path / "sessions", last, tmp_path / "data"))
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: all(figure in seen(app) for figure in ("431 k ", "267 k", "2.47 M")))


async def test_the_options_of_a_large_family_are_asked_for_in_the_form(tmp_path):
    last = Load(model="cp-resnet", dataset="digits", options={"rho": 8, "widths": "24 48 72"})
    screen = OpenScreen(shipped(), None, tmp_path / "sessions", last, tmp_path / "data")
    app = Host(screen)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: len(screen.query("#options Field")) == 5)
        names = [field.knob.name for field in screen.query("#options Field").results(Field)]
        await pilot.press("enter")
        await until(pilot, lambda: app.result is not PENDING)
    assert names == ["rho", "widths", "blocks", "groups", "first_activation"]
    assert app.result == last


async def test_one_can_choose_while_the_worker_warms_up_and_keeps_the_choice(tmp_path):
    screen = opening(tmp_path)
    app = Host(screen)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "warming up" in seen(app))
        await pilot.press("down")
        screen.set_ready(Ready(environment=ENVIRONMENT, catalogue=catalogue()))
        await until(pilot, lambda: "cuda:0" in seen(app) and "warming up" not in seen(app))
        await pilot.press("enter")
        await until(pilot, lambda: app.result is not PENDING)
    assert app.result == Load(model="lenet-300-100", dataset="digits")


async def test_it_says_which_data_is_there(tmp_path):
    (tmp_path / "data" / "MNIST" / "raw").mkdir(parents=True)
    for name in IDX_FILES:
        (tmp_path / "data" / "MNIST" / "raw" / name).write_text("x")
    (tmp_path / "data" / "FashionMNIST" / "raw").mkdir(parents=True)
    (tmp_path / "data" / "FashionMNIST" / "raw" / "train-images-idx3-ubyte.gz").write_text("the first of four")
    app = Host(opening(tmp_path))
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        lines = seen(app).splitlines()
    state = {name: next(line for line in lines if f" {name} " in line) for name in ("digits", "mnist", "fashion-mnist")}
    assert "there" in state["digits"] and "there" in state["mnist"]
    assert "download" in state["fashion-mnist"]


async def test_recent_sessions_are_listed_with_broken_ones_and_markup_is_text(tmp_path):
    session_file(tmp_path, "good.jsonl", "[@click=app.quit]lesson[/]")
    (tmp_path / "sessions" / "bad.jsonl").write_bytes(b"\xff\x00 no json")
    (tmp_path / "sessions" / "old.jsonl").write_text('{"labbench": 99}\n')
    app = Host(opening(tmp_path))
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        text = seen(app)
    assert "[@click=app.quit]lesson[/]" in text
    assert "bad.jsonl: not a session file" in text
    assert "old.jsonl: format 99; this labbench reads 2" in text


async def test_enter_on_a_session_opens_it_and_a_broken_one_is_refused(tmp_path):
    path = session_file(tmp_path, "good.jsonl", "lesson")
    screen = opening(tmp_path)
    app = Host(screen)
    async with app.run_test(size=(80, 24)) as pilot:
        screen.query_one("#sessions", Menu).focus()
        path.write_text("overwritten")
        await pilot.press("enter")
        await until(pilot, lambda: "not a session file" in seen(app))
        assert app.result is PENDING
        session_file(tmp_path, "good.jsonl", "lesson")
        await pilot.press("enter")
        await until(pilot, lambda: app.result is not PENDING)
    assert app.result == path


async def test_the_last_session_is_reached_first_and_says_what_it_came_to(tmp_path):
    older, newer = (session_file(tmp_path, f"{name}.jsonl", name) for name in ("older", "newer"))
    for number, path in enumerate((older, newer)):
        write_events(path, lenet_events())
        os.utime(path, (number + 1, number + 1))
    screen = opening(tmp_path, last=Load(model="resnet-20", dataset="cifar10"))
    app = Host(screen)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        line = next(line for line in seen(app).splitlines() if "● newer" in line)
        assert "98.3 % ×2.00" in line
        assert app.focused.id == "sessions"
        await pilot.press("tab")
        assert app.focused.id == "model"
        await pilot.press("shift+tab", "enter")
        await until(pilot, lambda: app.result is not PENDING)
    assert app.result == newer


async def test_the_session_that_is_open_is_not_offered_again(tmp_path):
    path = session_file(tmp_path, "good.jsonl", "lesson")
    app = Host(OpenScreen(catalogue(), None, path.parent, None, tmp_path / "data", path))
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        assert app.focused.id == "model" and "lesson" not in seen(app)


def test_the_end_of_a_file_is_read_whatever_it_is(tmp_path):
    path = session_file(tmp_path, "good.jsonl", "lesson")
    assert last_figures(path) == ""
    write_events(path, list(lenet_events())[:3])
    assert last_figures(path) == "10.0 % ×1.00"
    with path.open("ab") as file:  # cut off, and nothing of it is read whole
        file.write(b'[9.0,{"event":"finished"')
    assert last_figures(path) == "10.0 % ×1.00"
    with path.open("ab") as file:
        file.truncate(2**33)
    assert last_figures(path) == ""
    os.mkfifo(tmp_path / "pipe.jsonl")
    assert last_figures(tmp_path / "pipe.jsonl") == ""
    assert last_figures(tmp_path) == last_figures(tmp_path / "none.jsonl") == ""


@pytest.mark.parametrize("key", ["enter", "space"])
async def test_enter_on_advanced_shows_it_and_opens_nothing(tmp_path, key):
    screen = opening(tmp_path)
    app = Host(screen)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        screen.query_one(More).focus()
        await pilot.press(key)
        await until(pilot, lambda: screen.query_one(Advanced).has_class("-open"))
        assert app.result is PENDING
        screen.query_one(More).focus()
        await pilot.press(key)
        await until(pilot, lambda: not screen.query_one(Advanced).has_class("-open"))
        assert app.result is PENDING


async def test_a_click_on_a_session_and_one_on_the_button_open_it(tmp_path):
    path = session_file(tmp_path, "good.jsonl", "lesson")
    app = Host(opening(tmp_path))
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        await pilot.click("#sessions", offset=(6, 1))
        await pilot.pause()
        assert app.result is PENDING
        await pilot.click("#file")
        await until(pilot, lambda: app.result is not PENDING)
    assert app.result == path


async def test_a_path_can_be_typed_and_a_wrong_one_is_refused(tmp_path):
    recipe = tmp_path / "lesson.toml"
    recipe.write_text("title = 'x'")
    screen = opening(tmp_path)
    app = Host(screen)
    async with app.run_test(size=(80, 24)) as pilot:
        path = screen.query_one("#path", Input)
        path.focus()
        path.value = f"{tmp_path}/nothing.toml"
        await pilot.press("enter")
        await until(pilot, lambda: "there is no file" in seen(app))
        path.value = str(recipe)
        await pilot.pause()
        assert "there is no file" not in seen(app)
        await pilot.press("enter")
        await until(pilot, lambda: app.result is not PENDING)
    assert app.result == recipe


async def test_weights_must_be_a_file(tmp_path):
    screen = opening(tmp_path)
    app = Host(screen)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("ctrl+t")
        await type_in(pilot, "nope.pt")
        await until(pilot, lambda: "✗ there is no file nope.pt" in seen(app))
        await pilot.press("enter")
        await pilot.pause()
        assert app.result is PENDING


async def test_escape_gives_nothing(tmp_path):
    assert await result_of(opening(tmp_path), "escape") is None


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 50)])
async def test_everything_can_be_reached_with_tab(tmp_path, size):
    session_file(tmp_path, "good.jsonl", "lesson")
    app = Host(opening(tmp_path))
    reached = set()
    async with app.run_test(size=size) as pilot:
        for _ in range(12):
            reached.add(app.focused.id)
            await until(pilot, lambda: app.focused.region in app.screen.region)
            await pilot.press("tab")
    assert reached >= {"model", "dataset", "device", "sessions", "path", "load", "file", "cancel"}


async def test_without_sessions_it_says_where_they_will_be(tmp_path):
    app = Host(opening(tmp_path))
    async with app.run_test(size=(200, 50)) as pilot:
        await pilot.pause()
        assert "No session yet" in seen(app)
    assert not Path(tmp_path / "sessions").exists()


async def test_an_image_folder_is_asked_for_and_goes_into_the_load(tmp_path):
    screen = OpenScreen(shipped(), None, tmp_path / "sessions", None, tmp_path / "data")
    app = Host(screen)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("right", "end", "up")
        await until(pilot, lambda: len(screen.query("#data-options Field")) == 3)
        line = next(line for line in seen(app).splitlines() if "● folder" in line)
        assert line.count("folder") == 2
        assert "will be downloaded" not in seen(app)
        next(iter(screen.query("#data-options Field").results(Field))).take_focus()
        await type_in(pilot, "/pictures")
        await pilot.press("enter")
        await until(pilot, lambda: app.result is not PENDING)
    assert app.result == Load(model="lenet-5", dataset="folder", data_options={"path": "/pictures"})


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_a_model_of_ones_own_is_typed_with_its_arguments(tmp_path, monkeypatch, size):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text("raise SystemExit('imported')")
    screen = opening(tmp_path)
    app = Host(screen)
    async with app.run_test(size=size) as pilot:
        await pilot.press("G")
        await until(pilot, lambda: "such as net.py:build" in seen(app))
        await pilot.press("enter")
        await pilot.pause()
        assert app.result is PENDING
        await type_in(pilot, "nit.py:build")
        await until(pilot, lambda: "there is no file nit.py" in seen(app))
        await pilot.press("enter")
        assert app.result is PENDING
        await pilot.press(*["backspace"] * len("it.py:build"))
        await type_in(pilot, "et.py:build")
        screen.set_ready(Ready(environment=ENVIRONMENT, catalogue=catalogue()))
        await pilot.pause()
        await pilot.press("tab")
        await type_in(pilot, "width=8 norm=false")
        await pilot.press("enter")
        await until(pilot, lambda: app.result is not PENDING)
    assert app.result == Load(model="net.py:build", dataset="digits", options={"width": 8, "norm": False})


async def test_a_model_of_ones_own_is_chosen_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text("raise SystemExit('imported')")
    last = Load(model="net.py:build", dataset="shapes", options={"width": 8, "name": "two words"})
    screen = opening(tmp_path, last=last)
    app = Host(screen)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: len(screen.query("#options Field")) == 2)
        await pilot.press("enter")
        await until(pilot, lambda: app.result is not PENDING)
    assert app.result == last


async def test_arguments_that_cannot_be_read_are_refused(tmp_path):
    last = Load(model="torchvision.models:resnet18", dataset="shapes")
    screen = opening(tmp_path, last=last)
    app = Host(screen)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: len(screen.query("#options Field")) == 2)
        list(screen.query("#options Field").results(Field))[1].take_focus()
        await type_in(pilot, "width")
        await until(pilot, lambda: "takes NAME=VALUE, not width" in seen(app))
        await pilot.press("enter")
        assert app.result is PENDING


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 50)])
async def test_no_data_set_is_cut_when_options_bring_a_scroll_bar(tmp_path, size):
    screen = OpenScreen(shipped(), ENVIRONMENT, tmp_path / "sessions", None, tmp_path / "data")
    app = Host(screen)
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        await pilot.press("down", "down")
        await until(pilot, lambda: "receptive field" in seen(app))
        await until(pilot, lambda: "fashion-mnist" in seen(app) and seen(app).count(" download ") >= 3)

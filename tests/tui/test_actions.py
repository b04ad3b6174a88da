"""The registry: every action is done somewhere, every key means one thing, every refusal is a sentence."""

import pytest

from labbench.tui.actions import ACTIONS, FOOTER_KEYS, FOOTERS, bindings, footer, in_help, refusal, shown
from labbench.tui.doing import DOING
from labbench.tui.situation import Playing, Situation

NAMES = [action.name for action in ACTIONS]
READY = Situation(worker="ready", model=True)
HELD = Situation(worker="ready", model=True, file="a.jsonl", held="this session is open in another labbench (pid 7)")
PLAYING = Situation(worker="ready", model=True, playing=Playing(3, 10, 1.0, False, False))


def named(name):
    return next(action for action in ACTIONS if action.name == name)


def test_every_action_is_done_and_nothing_else_is():
    assert sorted(DOING) == sorted(NAMES)
    assert len(set(NAMES)) == len(NAMES)
    assert {name for names in FOOTERS.values() for name in names} <= set(NAMES)


@pytest.mark.parametrize("mode", ["bench", "player"])
def test_a_key_means_one_thing(mode):
    keys = [key for binding in bindings(mode) for key in binding.key.split(",")]
    assert len(set(keys)) == len(keys)
    own = {key for action in ACTIONS if mode in action.where for key in action.keys}
    assert own <= set(keys)


def test_help_has_every_action_of_its_mode():
    assert {action.title for action in ACTIONS if "player" in action.where} <= {a.title for a in in_help("player")}


@pytest.mark.parametrize(
    ("name", "situation", "word"),
    [
        ("prune", Situation(worker="starting"), "warming up"),
        ("prune", Situation(worker="restoring", model=True), "restored"),
        ("prune", Situation(worker="gone", model=True), "ctrl+r"),
        ("prune", Situation(worker="ready"), "o opens one"),
        ("prune", Situation(worker="ready", model=True, running="finetune"), "finetune is running: s stops it"),
        ("prune", PLAYING, "this is a recording"),
        ("stop", READY, "nothing is running"),
        ("undo", READY, "nothing to undo"),
        ("redo", READY, "nothing to redo"),
        ("recipe_next", READY, "recipe"),
        ("restart", READY, "alive"),
        ("prune", READY, ""),
        ("pause", PLAYING, ""),
        ("prune", HELD, "open in another labbench (pid 7): w saves a copy and goes on there"),
        ("note", HELD, "w saves a copy"),
        ("undo", HELD, "w saves a copy"),
        ("groups", HELD, ""),
        ("export", HELD, ""),
        ("save", HELD, ""),
    ],
)
def test_what_does_not_work_now_says_why(name, situation, word):
    sentence = refusal(named(name), situation)
    assert word in sentence
    assert bool(word) == bool(sentence)


@pytest.mark.parametrize(
    "situation", [Situation(), READY, PLAYING, HELD, Situation(worker="ready", running="finetune")]
)
def test_the_footer_shows_a_few_keys_that_work(situation):
    shown_keys = footer(situation)
    assert 0 < len(shown_keys) <= FOOTER_KEYS
    assert not [action for action in shown_keys if refusal(action, situation)]


def test_keys_read_as_people_write_them():
    assert [shown(key) for key in ("shift+up", "ctrl+p", "+", "F")] == ["shift+↑", "^p", "+", "F"]

"""Every action of the bench, once: bindings, footer, help screen, command palette and refusals are made from this."""

from collections.abc import Sequence

from msgspec import Struct
from textual.binding import Binding

from labbench.tui.situation import Situation

FOOTER_KEYS = 6  # a line that fits 80 columns and can be read at a glance

SHOWN = {"left": "←", "right": "→", "up": "↑", "down": "↓", "enter": "⏎", "pageup": "PgUp", "pagedown": "PgDn"}


class Action(Struct, frozen=True):
    """One thing a key, the mouse or the palette can do."""

    name: str
    keys: tuple[str, ...]
    title: str
    """A word or three: footer and palette."""
    help: str
    """One sentence: help screen and palette."""
    group: str
    """Heading in the help screen."""
    where: tuple[str, ...] = ("bench", "player")
    needs: tuple[str, ...] = ()
    """What must be so: live, ready, idle, model, running, undo, redo, recipe, gone, deaf."""

    @property
    def key(self) -> str:
        """The first key as people read it: "shift+up" → "shift+↑", "ctrl+p" → "^p"."""
        return shown(self.keys[0])


def shown(key: str) -> str:
    """A key as people read it."""
    *modifiers, last = key.split("+") if len(key) > 1 else [key]
    text = SHOWN.get(last, last)
    for modifier in reversed(modifiers):
        text = f"^{text}" if modifier == "ctrl" else f"{modifier}+{text}"
    return text


BENCH, PLAYER = ("bench",), ("player",)
CHANGE = ("live", "ready", "idle", "model")
LOOK = ("ready", "idle", "model")

ACTIONS: tuple[Action, ...] = (
    # operations
    Action(
        "freeze",
        ("f",),
        "freeze",
        "Keep the marked layers as they are through finetuning; when none is marked, ask which.",
        "Operations",
        BENCH,
        CHANGE,
    ),
    Action(
        "unfreeze",
        ("F",),
        "unfreeze",
        "Let the marked layers train again, or all when none is marked.",
        "Operations",
        BENCH,
        CHANGE,
    ),
    Action(
        "prune",
        ("p",),
        "prune",
        "Remove weights or filters of the marked layers, or of all when none is marked.",
        "Operations",
        BENCH,
        CHANGE,
    ),
    Action(
        "unprune",
        ("P",),
        "unprune",
        "Let the zeros of the marked layers (of all when none is marked) train again, from zero or their last values.",
        "Operations",
        BENCH,
        CHANGE,
    ),
    Action(
        "cluster",
        ("k",),
        "cluster",
        "Share filters by k-means in the marked layers, or in all when none is marked.",
        "Operations",
        BENCH,
        CHANGE,
    ),
    Action(
        "finetune",
        ("t",),
        "finetune",
        "Train, or go on with a run that was stopped: pruned weights stay zero, frozen layers stand still.",
        "Operations",
        BENCH,
        CHANGE,
    ),
    Action(
        "recalibrate",
        ("R",),
        "recalibrate",
        "Measure the statistics of batch norms anew: costs no training, and gives back much of what a cut took.",
        "Operations",
        BENCH,
        CHANGE,
    ),
    Action(
        "freeze_share",
        ("z",),
        "freeze a share",
        "Freeze those of a type, or the first so many percent, of the marked layers or of all; the form says how much.",
        "Operations",
        BENCH,
        CHANGE,
    ),
    Action(
        "measure",
        ("M",),
        "look closely",
        "Find and show weights on no path or without a gradient, distinct values and stored bytes; changes nothing.",
        "Operations",
        BENCH,
        CHANGE,
    ),
    Action(
        "scan",
        ("S",),
        "scan",
        "Try each marked layer alone, or each of all: how accuracy falls as it is pruned. A plan can be taken from it.",
        "Operations",
        ("bench", "player"),
        ("model",),
    ),
    Action(
        "time",
        ("D",),
        "time it",
        "Time the forward pass against the model as it was opened; changes nothing.",
        "Operations",
        BENCH,
        CHANGE,
    ),
    Action("evaluate", ("e",), "evaluate", "Measure accuracy on the test split.", "Operations", BENCH, CHANGE),
    Action(
        "stop",
        ("s",),
        "stop",
        "End the run within a second and keep what was learned.",
        "Operations",
        BENCH,
        ("running",),
    ),
    Action("undo", ("u",), "undo", "Take back the last change of the model.", "Operations", BENCH, (*CHANGE, "undo")),
    Action("redo", ("U",), "redo", "Do again what was undone.", "Operations", BENCH, (*CHANGE, "redo")),
    Action(
        "go",
        ("h",),
        "go here",
        "Go to the point under the cursor in the history and work on from there; nothing is lost.",
        "History",
        BENCH,
        CHANGE,
    ),
    Action(
        "name",
        ("N",),
        "name",
        "Give the point under the cursor in the history a name.",
        "History",
        BENCH,
        CHANGE,
    ),
    Action(
        "compare",
        ("d",),
        "compare",
        "Compare the marked points, or the one under the cursor with the model now: totals, layers, classes, curves.",
        "History",
        needs=("model",),
    ),
    Action(
        "groups",
        ("c",),
        "coupled",
        "Say which layers lose filters together with the one under the cursor, and why.",
        "Layers",
        BENCH,
        LOOK,
    ),
    # layers
    Action(
        "mark",
        ("space",),
        "mark",
        "Mark the layer under the cursor, or in the history the point, or unmark it; shift with ↑ ↓ marks many layers.",
        "Layers",
        BENCH,
    ),
    Action("mark_all", ("a",), "mark all", "Mark every layer shown, or none if all are marked.", "Layers", BENCH),
    Action("mark_glob", ("*",), "mark by glob", "Mark the layers that a glob such as layer1.* names.", "Layers", BENCH),
    Action(
        "filter",
        ("/",),
        "filter",
        "Show only layers whose name holds the text or fits the glob; Escape shows all.",
        "Layers",
    ),
    Action(
        "sort_left",
        ("<",),
        "sort leftward",
        "Sort by the column to the left; left of the first: network order.",
        "Layers",
    ),
    Action(
        "sort_right",
        (">",),
        "sort rightward",
        "Sort by the column to the right. A click on a column's head does it too.",
        "Layers",
    ),
    Action("reverse", ("r",), "reverse order", "Turn the order of the rows round.", "Layers"),
    Action(
        "clear",
        ("escape",),
        "show all",
        "End the filter, or, where there is none, unmark all layers (in the history, all points).",
        "Layers",
    ),
    Action("others", ("b",), "norms too", "Show or hide norms and other layers that cannot be pruned.", "Layers"),
    # views
    Action("loss", ("1",), "loss", "Show the loss over all finetuning, train and validation.", "Curves"),
    Action("accuracy", ("2",), "accuracy", "Show the accuracy over all finetuning, train and validation.", "Curves"),
    Action("sparsity", ("3",), "sparsity", "Show the sparsity over all finetuning.", "Curves"),
    Action("histogram", ("4",), "histogram", "Show the weights of the layer under the cursor.", "Curves"),
    Action("log_axis", ("y",), "log axis", "Draw the loss on a logarithmic axis, or on a linear one again.", "Curves"),
    Action(
        "measures",
        ("m",),
        "measures",
        "Show every measure: the model, its layers, each class against the dense model, the confusion matrix.",
        "Curves",
    ),
    Action(
        "big",
        ("B",),
        "big",
        "Show accuracy, sparsity, parameters and MACs in digits as large as the terminal, or the panes again.",
        "Panes",
    ),
    Action("pane_next", ("tab", "]"), "next pane", "Go to the next pane; in a small terminal, show it.", "Panes"),
    Action("pane_previous", ("shift+tab", "["), "previous pane", "Go to the pane before.", "Panes"),
    # session
    Action("open", ("o",), "open", "Open a model, a session file or a recipe.", "Session", BENCH, ("idle",)),
    Action(
        "note",
        ("n",),
        "note",
        "Write a remark into the session; a player shows it as a caption.",
        "Session",
        BENCH,
        ("live", "ready", "model"),
    ),
    Action(
        "task",
        ("T",),
        "task",
        "Set a task with goals, such as parameters < 25 %; the bench says when it is met.",
        "Session",
        BENCH,
        ("ready", "model"),
    ),
    Action(
        "save", ("w",), "save as", "Save the session under another name and go on recording there.", "Session", BENCH
    ),
    Action(
        "export",
        ("x",),
        "export",
        "Write the model to a file: weights or a program, by its ending.",
        "Session",
        BENCH,
        LOOK,
    ),
    Action(
        "recipe_next",
        (".",),
        "next step",
        "Do the next step of the open recipe.",
        "Recipe",
        BENCH,
        ("ready", "idle", "recipe"),
    ),
    Action(
        "recipe_all",
        (":",),
        "all steps",
        "Do all remaining steps of the recipe; s stops after the running one.",
        "Recipe",
        BENCH,
        ("ready", "idle", "recipe"),
    ),
    # player
    Action("pause", ("space",), "pause", "Pause, or go on playing.", "Player", PLAYER),
    Action("forward", ("right",), "next step", "Go to the end of the next operation and pause.", "Player", PLAYER),
    Action("back", ("left",), "previous step", "Go back by one operation and pause.", "Player", PLAYER),
    Action("faster", ("+", "="), "faster", "Play faster.", "Player", PLAYER),
    Action("slower", ("-",), "slower", "Play slower.", "Player", PLAYER),
    Action(
        "chapters",
        ("c",),
        "chapters",
        "List the chapters and steps, and go to any of them; what is ahead stays hidden until a is pressed there.",
        "Player",
        PLAYER,
    ),
    Action(
        "notes",
        ("n",),
        "pause at notes",
        "Pause where a note is reached, or play on; questions are only asked where it pauses.",
        "Player",
        PLAYER,
    ),
    Action(
        "clock",
        ("t",),
        "clock",
        "Show or hide the presenter's clock: since the start, pauses too, and the time of day.",
        "Player",
        PLAYER,
    ),
    Action(
        "take_over",
        ("T",),
        "take over",
        "Make a live bench of the recording as far as it was played, in a session file of its own.",
        "Player",
        PLAYER,
    ),
    # program
    Action("read", ("enter",), "read", "Read in full what the cursor is on: a layer, an operation, a note.", "Program"),
    Action("log", ("l",), "log", "Show the log and the events of this session.", "Program"),
    Action(
        "restart",
        ("ctrl+r",),
        "restore",
        "Start a dead worker again, or restore the session again.",
        "Program",
        BENCH,
        ("gone",),
    ),
    Action(
        "end_worker",
        ("K",),
        "end the worker",
        "End a worker that does not answer, or does not stop, and start another: what ran is offered again.",
        "Program",
        BENCH,
        ("deaf",),
    ),
    Action("help", ("?", "f1"), "help", "Explain the screen, its keys and its words.", "Program"),
    Action("about", ("i",), "about", "Say which versions, device and folders these are.", "Program"),
    Action("palette", ("ctrl+p",), "commands", "Find any action by its name.", "Program"),
    Action(
        "suspend",
        ("ctrl+z",),
        "suspend",
        "Back to the shell; the worker stands still, too. fg goes on.",
        "Program",
    ),
    Action(
        "quit", ("q",), "quit", "End; a running operation is asked about. The session file has everything.", "Program"
    ),
)

MOVES: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("cursor('up')", ("up",), "up"),
    ("cursor('down')", ("down", "j"), "down"),
    ("cursor('page_up')", ("pageup", "ctrl+b"), "a page up"),
    ("cursor('page_down')", ("pagedown", "ctrl+f"), "a page down"),
    ("cursor('top')", ("home", "g"), "to the first"),
    ("cursor('bottom')", ("end", "G"), "to the last"),
    ("cursor('up', True)", ("shift+up",), "mark upwards"),
    ("cursor('down', True)", ("shift+down", "J"), "mark downwards"),
)
"""How the cursor moves in the table and the history: action, keys, words. k clusters, so only j is of vi's keys."""

WHICH = "operations mean the marked layers, or all when none is marked; what only looks means the one under the cursor."
"""The one rule for which layers are meant: help and README say it."""
MOVES_HELP = "In the layers and the history; the mouse's wheel and clicks do the same."

FOOTERS: dict[str, tuple[str, ...]] = {
    "player": ("pause", "forward", "back", "chapters", "big", "take_over"),
    "running": ("end_worker", "stop", "loss", "accuracy", "filter", "log", "quit"),
    "empty": ("recipe_next", "recipe_all", "restart", "open", "log", "palette", "quit"),
    "history": ("go", "name", "mark", "compare", "undo", "redo", "read"),
    "idle": (
        "recipe_next",
        "restart",
        "mark",
        "freeze",
        "prune",
        "cluster",
        "finetune",
        "evaluate",
        "save",
        "filter",
        "loss",
        "log",
        "quit",
    ),
}


def actions_for(mode: str) -> tuple[Action, ...]:
    """The actions of "bench" or "player"."""
    return tuple(action for action in ACTIONS if mode in action.where)


def bindings(mode: str) -> list[Binding]:
    """The keys of "bench" or "player"; each has an id, so that a keymap can move it.

    Keys of the other mode that are free here are bound too: pressing them says why they do not work.
    """
    found: list[Binding] = []
    taken: set[str] = set()
    for action in sorted(ACTIONS, key=lambda action: mode not in action.where):
        if keys := [key for key in action.keys if key not in taken]:
            taken.update(keys)
            found.append(Binding(",".join(keys), f"do('{action.name}')", action.title, id=action.name, show=False))
    return found


def list_bindings() -> list[Binding]:
    """The keys that move the cursor in a list."""
    return [Binding(",".join(keys), action, words, show=False) for action, keys, words in MOVES]


def in_help(mode: str) -> tuple[Action, ...]:
    """Every action of a mode for the help screen, with the keys that move the cursor."""
    moves = [Action(action, keys, words, MOVES_HELP, "Moving") for action, keys, words in MOVES]
    return (*(action for action in actions_for(mode) if action.keys), *moves)


def mode_of(situation: Situation) -> str:
    """Whether this is a "bench" or a "player"."""
    return "player" if situation.playing else "bench"


def refusal(action: Action, situation: Situation) -> str:
    """Why the action does not work now, as a sentence for the user; "" where it does."""
    if mode_of(situation) not in action.where:
        what = action.title
        return f"this is a recording: {what} works at the bench" if situation.playing else f"{what} is for recordings"
    return next((sentence for need in action.needs if (sentence := _missing(need, situation))), "")


def footer(situation: Situation, pane: str = "layers") -> Sequence[Action]:
    """The keys that work now in a pane, most useful first, at most `FOOTER_KEYS`."""
    if situation.playing:
        kind = "player"
    elif situation.running or situation.worker == "restoring":
        kind = "running"
    else:
        kind = "empty" if not situation.model else "history" if pane == "history" else "idle"
    mode = actions_for(mode_of(situation))
    named = [action for name in FOOTERS[kind] for action in mode if action.name == name]
    return [action for action in named if not refusal(action, situation)][:FOOTER_KEYS]


def _missing(need: str, situation: Situation) -> str:
    match need:
        case "live":
            return f"{situation.held}: w saves a copy and goes on there" if situation.held else ""
        case "ready":
            return {
                "ready": "",
                "starting": "the bench is warming up: a moment",
                "restoring": "the session is being restored: a moment",
                "unrestored": "the session is not restored: ctrl+r tries again, o opens another",
                "gone": "the worker is gone: ctrl+r starts it again",
            }[situation.worker]
        case "idle":
            return f"{situation.running} is running: s stops it" if situation.running else ""
        case "model":
            return "" if situation.model else "no model is open: o opens one"
        case "running":
            return "" if situation.running or situation.worker == "restoring" else "nothing is running"
        case "undo":
            return "" if situation.undo else "nothing to undo: the model is as it was opened"
        case "redo":
            return "" if situation.redo else "nothing to redo: nothing was undone since the last change"
        case "recipe":
            return "" if situation.recipe else "no step of a recipe is left: o opens a recipe"
        case "gone":
            return "" if situation.worker in ("gone", "unrestored") else "the worker is alive"
        case "deaf":
            return "" if situation.silent or situation.stopping else "the worker answers: s stops what runs"
    raise ValueError(need)

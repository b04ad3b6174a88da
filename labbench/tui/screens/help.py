"""The keys, from the registry of actions, and the words of pruning in a sentence each."""

from collections.abc import Sequence
from typing import ClassVar, Protocol

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Button, Static

from labbench.tui.actions import WHICH
from labbench.tui.screens.dialog import Buttons, Dialog

TERMS: tuple[tuple[str, str], ...] = (
    ("sparsity", "the part of the loaded weights that is gone: 1 − non-zero / loaded, masked and cut alike."),
    ("amount", "the target sparsity: pruning to 50 % twice is still 50 %, not 75 %."),
    ("mask", "remembers which weights were pruned and holds them at zero through finetuning."),
    ("frozen", "a frozen layer does not move by one bit in finetuning; with it stands the norm behind it."),
    ("unprune", "drops the mask: the zeros become ordinary values that training may move again."),
    ("structured pruning", "cuts whole filters out, so that the model is really smaller and faster, not only emptier."),
    ("coupled group", "layers that must lose the same channels together, such as those joined by a residual sum."),
    ("cluster", "k-means over the filters of a layer: K unique filters remain, and each filter is one of them."),
    ("MACs", "multiply-accumulates for one image; zeros count too, so that a mask alone saves none."),
    (
        "compression ratio",
        "parameters when loaded / non-zero ones now: ×2 means that half is gone. The history has it of all parameters.",
    ),
    ("point", "a change of the model, where one can go again (h), and from where one can go on another way."),
    (
        "history",
        "the tree of points: ▸ where one stands, above it what led there; ↶ where redo leads; ├ other branches.",
    ),
    ("macro accuracy", "mean of the accuracies of all classes, each counting the same however many images it has."),
    ("worst class", "the class with the lowest accuracy: pruning often hurts it first, unseen in the average."),
    ("validation, test", "validation images are for choosing, test images for the final figure, looked at once."),
    ("regularizer", "a penalty beside the loss that pulls weights, filters or norm scales towards zero in training."),
    (
        "distillation",
        "the pruned model learns the answers of the dense one, the model before the first prune or cluster.",
    ),
    ("recalibrate", "measure the means and variances of batch norms anew, which no longer fit what was cut."),
    ("session", "everything that happened, written to a file as it happens; opening it continues it."),
    ("play", "watch a recorded session in these screens; nothing is computed."),
    ("note", "words in a session, in Markdown: a player pauses there and shows them in large."),
    ("chapter", "begins at a note with a title and reaches to the next one; c in a player lists them."),
    (
        "prediction",
        "what the class answers to a note's question; the next step that has the figure says who was close.",
    ),
    ("take over", "a recording, as far as it was played, becomes a live bench with a session file of its own."),
    ("replay", "do a session's operations again and compare the figures."),
    ("recipe", "a list of operations written by hand, in TOML; the bench steps through it."),
)


class ActionLike(Protocol):
    """What the help needs to know of an action."""

    @property
    def key(self) -> str:
        """The key as people call it."""

    @property
    def title(self) -> str:
        """What it does, in a word or two."""

    @property
    def help(self) -> str:
        """What it does, in a sentence."""

    @property
    def group(self) -> str:
        """The heading it stands under."""


class HelpScreen(ModalScreen[None]):
    """Every key that works and every term that is used. Arrows scroll, escape closes."""

    DEFAULT_CSS = """
    HelpScreen { align: center middle; }
    HelpScreen VerticalScroll { height: 1fr; scrollbar-size-vertical: 1; }
    HelpScreen Dialog { max-width: 110; max-height: 100%; }
    HelpScreen .heading { text-style: bold underline; height: 2; padding-top: 1; }
    HelpScreen .line { height: auto; }
    HelpScreen .key { width: 10; padding-right: 1; text-style: bold; }
    HelpScreen .word { width: 18; padding-right: 1; height: auto; }
    HelpScreen .words { width: 1fr; height: auto; color: $text-muted; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,question_mark", "close", "Close"),
        Binding("j", "scroll(1)", "Down", show=False),
        Binding("k", "scroll(-1)", "Up", show=False),
        Binding("g", "scroll(-100000)", "Top", show=False),
        Binding("G", "scroll(100000)", "Bottom", show=False),
    ]

    def __init__(self, actions: Sequence[ActionLike]) -> None:
        super().__init__()
        self._actions = actions

    def compose(self) -> ComposeResult:
        """Groups of keys in the order of the registry, then the terms."""
        with Dialog("Help"):
            with VerticalScroll():
                for group in dict.fromkeys(action.group for action in self._actions):
                    yield Static(group, classes="heading", markup=False)
                    if group == "Operations":
                        yield _line("", "which layers", WHICH)
                    for action in self._actions:
                        if action.group == group:
                            yield _line(action.key, action.title, action.help)
                yield Static("Terms", classes="heading", markup=False)
                for term, meaning in TERMS:
                    yield _line("", term, meaning)
            yield Buttons(("close", "Close"), hint="↑↓ scroll · esc close")

    def on_mount(self) -> None:
        """Scroll at once."""
        self.query_one(VerticalScroll).focus()

    def action_close(self) -> None:
        """Back to what was there."""
        self.dismiss(None)

    def action_scroll(self, lines: int) -> None:
        """Scroll by so many lines, to the ends at most."""
        self.query_one(VerticalScroll).scroll_relative(y=lines, animate=False)

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """The only button closes."""
        self.action_close()


def _line(key: str, word: str, words: str) -> Horizontal:
    return Horizontal(
        Static(key, classes="key", markup=False),
        Static(word, classes="word", markup=False),
        Static(words, classes="words", markup=False),
        classes="line",
    )

"""The form of any operation, built from the catalogue: fields in, an operation out, with a live preview between."""

import fnmatch
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, Vertical, VerticalScroll
from textual.content import Content
from textual.css.query import NoMatches
from textual.message import Message
from textual.screen import ModalScreen
from textual.timer import Timer
from textual.widgets import Button, Input, Static

from labbench.session.catalogue import Catalogue, Entry, Knob
from labbench.session.check import BadInput, listed, meant, operation_from
from labbench.session.events import Previewed
from labbench.session.operations import OPERATIONS, AnyOperation
from labbench.session.snapshot import Snapshot
from labbench.tui import preview, words
from labbench.tui.advanced import Advanced
from labbench.tui.fields import Field
from labbench.tui.preview import PreviewPanel
from labbench.tui.screens.dialog import Buttons, Dialog

NOTHING = Entry(name="", title="None: the loss alone is minimized")
CLAUSE = re.compile("[,;:] ")  # a title must fit 80 columns: its first clause does
NAMES_SHOWN = 12  # layers in a refusal
PAUSE = 0.15  # seconds without a key before a preview is asked for


class OperationForm(ModalScreen[AnyOperation | None]):
    """Dismisses with the operation, or None. Asks for previews with `Changed`; the answer goes to `show_preview`."""

    AUTO_FOCUS = ""
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (112, "-wide")]
    DEFAULT_CSS = """
    OperationForm { align: center middle; }
    OperationForm #parts { height: 1fr; }
    OperationForm #fields { height: 1fr; scrollbar-gutter: stable; scrollbar-size-vertical: 1; }
    OperationForm Vertical.part { height: auto; }
    OperationForm Container { height: auto; }
    OperationForm #problem { height: auto; color: $text-error; text-style: bold; display: none; }
    OperationForm.-narrow PreviewPanel { height: 8; }
    OperationForm.-wide #parts { layout: horizontal; }
    OperationForm.-wide #fields { width: 1fr; }
    OperationForm.-wide PreviewPanel { width: 1fr; height: 1fr; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "submit", "Do it"),
        Binding("ctrl+o", "submit", "Do it", show=False),
        Binding("ctrl+t", "toggle_rare", "More settings"),
        Binding("escape", "cancel", "Cancel"),
    ]

    class Changed(Message):
        """The form holds a valid operation that differs from the last one: what would it do?"""

        def __init__(self, operation: AnyOperation) -> None:
            super().__init__()
            self.operation = operation

    def __init__(
        self,
        operation: str,
        catalogue: Catalogue,
        snapshot: Snapshot | None,
        layers: tuple[str, ...] = (),
        last: Mapping[str, object] | None = None,
        beside: tuple[Knob, ...] = (),
    ) -> None:
        """`layers` are the marked ones; `last` holds the values of the last such operation.

        `beside` are settings that are no field of the operation; what was chosen stands in `besides` in the end.
        """
        super().__init__()
        entry = catalogue.entry("operations", operation)
        assert entry is not None, f"no operation {operation}"
        self._entry = entry
        self._catalogue = catalogue
        self._snapshot = snapshot
        self._last = {**(last or {}), **({"layers": layers} if layers else {})}
        self._beside = beside
        self.besides: dict[str, object] = {knob.name: knob.default for knob in beside}
        self._announced: AnyOperation | None = None
        self._timer: Timer | None = None
        self._owner = next((knob for knob in entry.knobs if knob.fills), None)
        """The field whose entry has settings of its own."""

    def compose(self) -> ComposeResult:
        """Common fields, the chosen method's own, rare ones, and the preview."""
        knobs = [knob for knob in self._entry.knobs if knob.kind != "options" and not knob.recorded]
        rare = [knob for knob in knobs if knob.rare]
        rare[:0] = self._beside
        title = f"{self._entry.name.capitalize()} · {CLAUSE.split(self._entry.title)[0]}"
        with Dialog(title):
            with Container(id="parts"):
                with VerticalScroll(id="fields", can_focus=False):
                    for knob in knobs:
                        if knob not in rare:
                            yield self._field(knob)
                        if knob == self._owner:
                            yield Vertical(
                                *self._option_fields(self._chosen_at_first(knob)), id="options", classes="part"
                            )
                    if rare:
                        yield Advanced(*(self._field(knob) for knob in rare))
                    yield Static("", id="problem", markup=False)
                yield PreviewPanel()
            rare_hint = " · ctrl+t more" if rare else ""
            yield Buttons(
                ("submit", self._entry.name.capitalize()),
                ("cancel", "Cancel"),
                hint=f"enter · esc · tab · ←→↑↓ change{rare_hint}",
            )

    def on_mount(self) -> None:
        """Begin with the first field, the rare ones hidden, and a preview."""
        self._settle()
        fields = list(self._fields())
        if fields:
            amount = next((field for field in fields if field.knob.name in ("amount", "k", "epochs")), None)
            planned = next((field for field in fields if field.knob.kind in ("map", "counts") and field.value), None)
            first = planned or (amount if amount and self._last.get("layers") else fields[0])
            for advanced in self.query(Advanced):
                advanced.reveal(first)
            first.take_focus()
        self._announce()

    @property
    def operation(self) -> AnyOperation | None:
        """What the fields mean now, or None where one of them is wrong."""
        return None if any(field.problem for field in self._fields()) else self._formed()[0]

    def show_preview(self, event: Previewed) -> None:
        """Show what the worker answered to `Changed`, unless it was about other values than those that stand here."""
        if event.operation != self._announced:
            return
        try:
            panel = self.query_one(PreviewPanel)
        except NoMatches:
            return  # an answer that came before the form was drawn, or after it went
        panel.draw(partial(preview.previewed, self._snapshot, event))

    def lose_preview(self, why: str) -> None:
        """Say that no answer comes any more."""
        if self._announced is not None and self._announced.PREVIEWED:
            self.show_preview(Previewed(operation=self._announced, error=why))

    def action_submit(self) -> None:
        """Dismiss with the operation; with something wrong, go to it instead."""
        operation = self.operation
        if operation is not None:
            names = {knob.name for knob in self._beside}
            self.besides |= {field.knob.name: field.value for field in self._fields() if field.knob.name in names}
            self.dismiss(operation)
            return
        wrong = next((field for field in self._fields() if field.problem), None)
        if wrong:
            for advanced in self.query(Advanced):
                advanced.reveal(wrong)
            wrong.attend()
        self.app.bell()

    def action_cancel(self) -> None:
        """Dismiss with nothing."""
        self.dismiss(None)

    def action_toggle_rare(self) -> None:
        """Show or hide the rarely used fields."""
        for advanced in self.query(Advanced):
            if advanced.display:
                advanced.turn()

    @on(Button.Pressed)
    def _pressed(self, event: Button.Pressed) -> None:
        if event.button.id == "submit":
            self.action_submit()
        else:
            self.action_cancel()

    @on(Input.Submitted)
    def _entered(self, event: Input.Submitted) -> None:
        event.stop()
        self.action_submit()

    @on(Field.Changed)
    async def _changed(self, event: Field.Changed) -> None:
        event.stop()
        if event.field.knob == self._owner:
            options = self.query_one("#options")
            await options.remove_children()
            await options.mount_all(self._option_fields(str(event.field.value)))
        self._settle()
        self._announce(PAUSE)

    def _announce(self, pause: float = 0.01) -> None:
        """With other values, drop what was said of the ones before, and after a pause ask for a preview of these."""
        operation = self.operation
        if operation is not None and operation == self._announced:
            return
        self._announced = operation
        if self._timer:
            self._timer.stop()
        panel = self.query_one(PreviewPanel)
        if operation is None:
            panel.say(Content.styled("no preview until every field is right", "$text-muted"))
        elif OPERATIONS[self._entry.name].PREVIEWED:
            panel.wait()
            self._timer = self.set_timer(pause, partial(self.post_message, self.Changed(operation)))
        else:
            panel.say(preview.promise(operation, self._snapshot, self._catalogue), "what will be done")

    def _settle(self) -> None:
        """Show the fields that mean something now, and what is wrong with all of them together."""
        values = {field.knob.name: field.value for field in self._fields(hidden=True)}
        for field in self.query(Field):
            field.display = self._is_option(field) or self._applies(field.knob, values)
        for advanced in self.query(Advanced):
            advanced.summarize()
            advanced.display = any(field.display for field in advanced.fields)
        problem = "" if any(field.problem for field in self._fields()) else self._formed()[1]
        line = self.query_one("#problem", Static)
        line.display = bool(problem)
        line.update(Content(f"✗ {problem}"))

    def _applies(self, knob: Knob, values: Mapping[str, object]) -> bool:
        if knob.offered:
            return knob.name in self._last
        if any(values.get(other.name) for other in self._entry.knobs if other.offered):
            return False
        idle = self._idle(values)
        return knob.name not in idle and all(
            other not in values or other in idle or (values[other] in needed if needed else bool(values[other]))
            for other, needed in knob.only_with.items()
        )

    def _idle(self, values: Mapping[str, object]) -> set[str]:
        """Fields that mean nothing to the chosen method."""
        method = self._catalogue.entry("methods", str(values.get("method")))
        facts = method.facts if method else {}
        said = {name for name, value in facts.items() if value is True} | {facts.get("granularity")}
        return {knob.name for knob in (*self._entry.knobs, *self._beside) if said & set(knob.idle_for)}

    @staticmethod
    def _is_option(field: Field) -> bool:
        return field.parent is not None and field.parent.id == "options"

    def _formed(self) -> tuple[AnyOperation | None, str]:
        raw: dict[str, object] = {"op": self._entry.name}
        options: dict[str, object] = {}
        for field in self._fields():
            if field.knob in self._beside:
                continue
            if self._is_option(field):
                if field.value != field.knob.default:
                    options[field.knob.name] = field.value
            else:
                raw[field.knob.name] = field.value
        if options:
            raw[self._owner.fills if self._owner else "options"] = options
        try:
            return operation_from(raw), ""
        except BadInput as error:
            return None, str(error)

    def _fields(self, hidden: bool = False) -> Iterator[Field]:
        return (field for field in self.query(Field) if hidden or field.display)

    def _field(self, knob: Knob) -> Field:
        judge = partial(self._judge_layers, knob.layers == "all") if knob.layers else None
        return Field(knob, self._last.get(knob.name), self._menu(knob), judge)

    def _menu(self, knob: Knob) -> tuple[Entry, ...]:
        """The entries that a field chooses from; none for one that is filled in."""
        entries = [entry for menu in knob.menus for entry in getattr(self._catalogue, menu)]
        return (NOTHING, *entries) if knob.menus and knob.default == "" else tuple(entries)

    def _chosen_at_first(self, knob: Knob) -> str:
        names = [entry.name for entry in self._menu(knob)]
        for name in (self._last.get(knob.name), knob.default):
            if name in names:
                return str(name)
        return names[0] if names else ""

    def _option_fields(self, chosen: str) -> list[Field]:
        owner = self._owner
        if owner is None:
            return []
        entry = next((one for one in self._menu(owner) if one.name == chosen), None)
        last = self._last.get(owner.fills) if self._last.get(owner.name) == chosen else None
        known = last if isinstance(last, Mapping) else {}
        return [Field(knob, known.get(knob.name)) for knob in (entry.knobs if entry else ())]

    def _judge_layers(self, norms: bool, names: tuple[str, ...]) -> tuple[str, str]:
        if not names:
            return "name at least one layer, or * for all", ""
        if self._snapshot is None:
            return "", ""
        prunable = [row.name for row in self._snapshot.rows if row.prunable]
        known = [row.name for row in self._snapshot.rows] if norms else prunable
        matched: set[str] = set()
        for name in names:
            found = _matches(name, known)
            if not found:
                return f"no layer matches {name}{meant(name, known)}; the layers are {_some(prunable)}", ""
            matched |= found
        meant_now, layers = len(matched & set(prunable)), words.plural(len(prunable), "layer")
        return "", f"all {layers}" if meant_now == len(prunable) > 1 else f"{meant_now} of {layers}"


def _matches(name: str, known: Sequence[str]) -> set[str]:
    """The layers that a name or glob means; that of a module means every layer in it, as on the bench."""
    if name in known:
        return {name}
    pattern = name if any(sign in name for sign in "*?[") else f"{name}.*"
    return {one for one in known if fnmatch.fnmatchcase(one, pattern)}


def _some(names: Sequence[str]) -> str:
    rest = len(names) - NAMES_SHOWN
    return listed(names[:NAMES_SHOWN]) + (f" and {rest} more" if rest > 0 else "")

"""One knob as a line of a form: its name, a control, what the value means, and below it an explanation or what is
wrong."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, TypeAlias

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import Input, Static

from labbench.session.catalogue import Entry, Knob
from labbench.session.check import BadInput, is_fraction, wrong
from labbench.session.operations import percent
from labbench.tui import values
from labbench.tui.choice import Choice

Judge: TypeAlias = Callable[[Any], tuple[str, str]]
"""Given a value of the right type: what is wrong with it ("" if nothing), and a few words beside the field."""

YES, NO, NONE = "yes", "no", "none"


class NumberInput(Input):
    """An input whose number the up and down keys change."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "step(True)", "More", show=False),
        Binding("down", "step(False)", "Less", show=False),
    ]

    def __init__(self, knob: Knob, text: str) -> None:
        super().__init__(text, compact=True)
        self._knob = knob

    def action_step(self, up: bool) -> None:
        """The next value; a percentage stays one. What cannot be read stays as it is."""
        try:
            value = values.parse(self._knob, self.value)
        except BadInput:
            return
        assert isinstance(value, int | float)
        changed = values.step(self._knob, value, up)
        self.value = percent(changed) if "%" in self.value else values.show(self._knob, changed)
        self.cursor_position = len(self.value)


class Field(Vertical):
    """A knob that can be set. `value` is right whenever `problem` is empty."""

    DEFAULT_CSS = """
    Field { height: auto; margin-bottom: 0; }
    Field > Horizontal { height: 1; }
    Field .name {
        width: auto; min-width: 13; max-width: 40%; text-style: bold; text-wrap: nowrap; text-overflow: ellipsis;
    }
    Field Input { width: 1fr; background: $surface; }
    Field Input.-textual-compact { padding: 0 1; }
    Field Input:focus { background-tint: $foreground 8%; }
    Field .note { width: auto; max-width: 40%; padding: 0 0 0 1; color: $text-muted; }
    Field .help { height: auto; padding: 0 0 0 14; color: $text-muted; }
    Field.-wrong .help { color: $text-error; text-style: bold; }
    Field.-wrong Input { text-style: underline; }
    Field.-here .name { text-style: bold reverse; }
    """

    class Changed(Message):
        """The value or what is wrong with it changed."""

        def __init__(self, field: "Field") -> None:
            super().__init__()
            self.field = field

        @property
        def control(self) -> "Field":
            """The field that changed."""
            return self.field

    def __init__(
        self, knob: Knob, value: object = None, entries: Sequence[Entry] = (), judge: Judge | None = None
    ) -> None:
        """A field with a value to begin with, else the knob's default. With `entries`, a text is chosen from a menu."""
        super().__init__(classes="field")
        self.knob = knob
        self.problem = ""
        self._meant = ""
        """What seems to be meant by what is wrong, or ""."""
        self._judge = judge
        self._entries: Mapping[object, Entry] = {entry.name: entry for entry in entries}
        start = knob.default if value is None or wrong(knob, value) else value
        self._value: object = start
        self._control = self._make(start)
        self._note = Static("", classes="note", markup=False)
        self._help = Static("", classes="help", markup=False)

    def _make(self, start: object) -> Choice | Input:
        knob = self.knob
        if self._entries:
            names = [entry.name for entry in self._entries.values()]
            return Choice(names, start if isinstance(start, str) else None, [name or NONE for name in names])
        if knob.kind == "choice":
            return Choice(knob.choices, start if isinstance(start, bool | int | float | str) else None)
        if knob.kind == "bool":
            return Choice((True, False), bool(start), (YES, NO))
        if knob.kind in ("int", "float"):
            return NumberInput(knob, values.show(knob, start))
        return Input(values.show(knob, start), compact=True)

    def compose(self) -> ComposeResult:
        """Name, control and note in one line, the explanation below."""
        with Horizontal():
            yield Static(self.knob.name.replace("_", " "), classes="name", markup=False)
            yield self._control
            yield self._note
        yield self._help

    def on_mount(self) -> None:
        """Show what the first value means."""
        self._read()

    def on_descendant_focus(self) -> None:
        """Mark the name of the field that has the keys, and bring its explanation into sight with it."""
        self.add_class("-here")
        self.call_after_refresh(self.scroll_visible, animate=False)

    def on_descendant_blur(self) -> None:
        """The keys went elsewhere."""
        self.remove_class("-here")

    @property
    def value(self) -> Any:
        """The value, as an operation holds it; meaningless while there is a problem."""
        return self._value

    def take_focus(self) -> None:
        """Let the keys go to this field."""
        self._control.focus()

    def attend(self) -> None:
        """Something is wrong here and enter was pressed: let the keys go to it, and take what is suggested for it."""
        self.take_focus()
        if self._meant and isinstance(self._control, Input):
            self._control.value = self._meant
            self._control.cursor_position = len(self._meant)

    @on(Input.Changed)
    @on(Choice.Changed)
    def _typed(self, event: Message) -> None:
        event.stop()
        self._read()
        self.post_message(self.Changed(self))

    def _read(self) -> None:
        self.problem, self._meant, note = "", "", ""
        try:
            control = self._control
            self._value = control.value if isinstance(control, Choice) else values.parse(self.knob, control.value)
        except BadInput as error:
            self.problem = str(error)
            if isinstance(self._control, Input) and (meant := values.as_percent(self.knob, self._control.value)):
                self._meant, self.problem = meant, f"{meant}? enter says yes · {error}"
        if not self.problem and self._judge:
            self.problem, note = self._judge(self._value)
        self.set_class(bool(self.problem), "-wrong")
        note = "" if self.problem else note or self._meaning()
        self._note.update(Content(note))
        self._help.update(Content(f"✗ {self.problem}" if self.problem else self._explanation()))

    def _meaning(self) -> str:
        if is_fraction(self.knob) and not self.knob.high_open and isinstance(self._value, float | int):
            text = self._control.value if isinstance(self._control, Input) else ""
            return f"= {self._value:g}" if "%" in text else f"= {percent(self._value)}"
        return ""

    def _explanation(self) -> str:
        entry = self._entries.get(self._value) if self._entries else None
        if entry:
            return entry.title + _granularity(entry)
        limits = values.range_of(self.knob)
        return " · ".join(part for part in (self.knob.help, limits) if part)


def _granularity(entry: Entry) -> str:
    granularity = entry.facts.get("granularity")
    return {"weight": " · single weights", "filter": " · whole filters"}.get(str(granularity), "")

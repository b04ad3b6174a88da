"""An app with nothing in it but the screen under test, and what is seen on it."""

from textual.app import App

PENDING = object()


class Host(App):
    """Pushes one screen and keeps what it was dismissed with."""

    def __init__(self, screen):
        super().__init__()
        self.first = screen
        self.result = PENDING
        self.asked = []

    def on_mount(self):
        self.push_screen(self.first, self.keep)

    def keep(self, result):
        self.result = result

    def on_operation_form_changed(self, event):
        self.asked.append(event.operation)


async def until(pilot, condition):
    """Wait until it is so; fail after a while that is long enough for a busy machine."""
    for _ in range(1500):
        if condition():
            return
        await pilot.pause(0.02)
    raise AssertionError("it did not come true")


def seen(app):
    """The text on the screen."""
    strips = app.screen._compositor.render_strips(app.size)
    return "\n".join("".join(segment.text for segment in strip) for strip in strips)


async def type_in(pilot, text):
    """Press the keys of a text in a field whose content is selected."""
    await pilot.press(*("space" if letter == " " else letter for letter in text))

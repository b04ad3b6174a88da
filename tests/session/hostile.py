"""Sessions in which every string that may be anything holds what a terminal would act on."""

import msgspec

from labbench.session.events import AnyEvent
from labbench.session.jsonl import VERSION
from labbench.session.session import Session

PAYLOAD = (
    "\x1b]0;PWNED\x07\x1b]52;c;UFdORUQ=\x1b\\\x1b[2J\x1b[31m\x9b31m\x9d0;PWNED\x9c\x90q\x9c"
    "\u202e\u2066\u200e\u200b\u2028\u0085\x7f\r\n\t\x0b\x00[/][@click=app.quit]\U000e0041卷积"
)
SHORT = "\x1b[31m\x9b\u202e\x07卷"  # where there is no room for that
KEPT = ("Metric.name", "operation.at", "operation.to")  # by these other things are looked up

_event = msgspec.json.Decoder(AnyEvent)


def hostile(events):
    """These timed events with every string made hostile that decodes all the same, and the kinds of strings it was."""
    found, kinds = [], set()
    for seconds, event in events:
        value = msgspec.json.decode(msgspec.json.encode(event))
        name = type(event).__name__
        for path in list(_strings(value)):
            kind = ".".join((name, *(part for part in path if isinstance(part, str))))
            if kind.endswith(KEPT):
                continue
            for payload in (PAYLOAD, SHORT):
                if (changed := _decoded(_with(value, path, payload))) is not None:
                    value = changed
                    kinds.add(kind)
                    break
        for key in ("unique", "nonzero", "amounts", "options", "ks"):
            value = _keys(value, key)
        found.append((seconds, _event.decode(msgspec.json.encode(value))))
    return found, kinds


def hostile_session(events, title="a lesson"):
    """A session of these."""
    session = Session(title + PAYLOAD)
    for seconds, event in events:
        session.append(seconds, event)
    return session


def write(path, events, title="a lesson"):
    """The file of such a session, as msgspec writes it: with nothing escaped that need not be."""
    header = {"labbench": VERSION, "title": title + PAYLOAD, "created": "2026-01-01" + SHORT}
    lines = [header, *events]
    path.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
    return path


def _strings(value, path=()):
    if isinstance(value, str):
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from _strings(item, (*path, key))


def _with(value, path, payload):
    """The same with that string longer."""
    if not path:
        return value + payload
    made = value.copy()
    made[path[0]] = _with(value[path[0]], path[1:], payload)
    return made


def _keys(value, field):
    """Where that field is a mapping by names of layers or options, these names are hostile, too."""
    if isinstance(value, list):
        return [_keys(item, field) for item in value]
    if not isinstance(value, dict):
        return value
    made = {key: _keys(item, field) for key, item in value.items()}
    if isinstance(made.get(field), dict):
        made[field] = {key + PAYLOAD: item for key, item in made[field].items()}
    return made


def _decoded(value):
    try:
        _event.decode(msgspec.json.encode(value))
    except msgspec.ValidationError:
        return None
    return value

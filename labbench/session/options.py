"""Options as people type them: NAME=VALUE, one or several in a line."""

import shlex
from collections.abc import Mapping

from labbench.session.check import BadInput
from labbench.session.operations import Value


def option_from(text: str) -> tuple[str, Value]:
    """What NAME=VALUE means: true and false, whole numbers, numbers, else text. Raises `BadInput`."""
    name, sign, value = text.partition("=")
    if not sign or not name:
        raise BadInput(f"takes NAME=VALUE, not {text}")
    if value in ("true", "false"):
        return name, value == "true"
    for kind in (int, float):
        try:
            return name, kind(value)
        except ValueError:
            continue
    return name, value


def options_from(text: str) -> dict[str, Value]:
    """The options of a line such as `width=8 norm=false`; quotes keep blanks together. Raises `BadInput`."""
    try:
        return dict(option_from(word) for word in shlex.split(text))
    except BadInput:
        raise
    except ValueError as error:
        raise BadInput(f"cannot be read: {error}") from None


def options_text(options: Mapping[str, Value]) -> str:
    """The line that `options_from` reads as these options."""
    return shlex.join(
        f"{name}={str(value).lower() if isinstance(value, bool) else value}" for name, value in options.items()
    )

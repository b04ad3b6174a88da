"""The command line: reads the arguments, refuses what cannot be meant, and starts the app or a headless command.
Imports what a command needs when it runs, so that `--help` is there at once."""

import argparse
import codecs
import difflib
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from labbench import __version__, streams
from labbench.exits import BAD, BUG, CANNOT, INTERRUPTED, SAME, UNREAD, by_signal, heard, say
from labbench.printable import printable

if TYPE_CHECKING:
    from labbench.session.operations import Load, Value
    from labbench.session.recipe import Recipe

Read = TypeVar("Read")

HEADLESS = """headless commands (each has --help):
  labbench replay FILE [--check]       do a session's operations again; --check gives a verdict for each
                                       (--from N, --until N, --set STEP.FIELD=VALUE, --repeat SEEDS)
  labbench run RECIPE [--out FILE]     do a recipe's operations
  labbench show FILE [--recipe]        what a session did and what the model is now
  labbench compare FILE[@POINT] FILE[@POINT] …   models side by side: points of one session, or of several
  labbench check FILE… [--tasks FILE]  whether the tasks of sessions were met, a line each
  labbench sessions [--prune [SIZE]]   the session files, and the sizes of their checkpoints (--check: all is whole?)
  labbench pack FILE / unpack ARCHIVE  a session and its checkpoints in one file, for another machine
  labbench list models|datasets|methods|clusterings|regularizers|operations
  labbench export FILE --to MODEL.safetensors|.pth|.pt|.pt2|.onnx
and in the terminal:
  labbench play FILE                   watch a recording in the bench's screens
"""
EPILOG = f"""{HEADLESS}
exit codes: 0 done (replay --check: the same) · 1 refused or differs · 2 bad file or command line · 3 cannot run here ·
70 a bug, described in the log · 129, 130, 143 stopped with SIGHUP, ctrl+c, SIGTERM · 141 nobody reads the output
"""
LISTS = ("models", "datasets", "methods", "clusterings", "regularizers", "operations")


class Parser(argparse.ArgumentParser):
    """Refuses in one sentence."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and where the help is, and end with exit code 2."""
        self.exit(BAD, f"{self.prog}: {printable(message)} ({self.prog} --help)\n")

    def print_help(self, file: Any = None) -> None:
        """Print the help; argparse would hide that it cannot be written."""
        print(self.format_help(), end="", file=file)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; returns the exit code."""
    if argv is None:  # this process is labbench, not a test of it
        streams.prepare()
        for number in heard():
            signal.signal(number, _end)
    try:
        try:
            code = _dispatch(list(sys.argv[1:] if argv is None else argv))
        except SystemExit as end:  # --help, --version, a command line that is refused, or a signal
            code = end.code if isinstance(end.code, int) else SAME
        sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output, such as head, has seen enough
        streams.forsake()
        return UNREAD
    except OSError as error:
        streams.forsake()
        where = f"{error.filename}: " if error.filename else ""
        return say(f"{where}{error.strerror or error}", CANNOT)
    except UnicodeEncodeError as error:  # of a file's name: sessions, recipes and the pipe to the worker are UTF-8
        return say(f"{error.object}: a name that is not UTF-8 cannot be used here; rename it", BAD)
    except Exception as error:  # noqa: BLE001 — the last place where a bug can become a sentence
        return say(f"this is a bug in labbench; {_log(error)}", BUG)
    return code


def _end(number: int, _: object) -> NoReturn:
    """What a signal does that asks the program to end: everything that is open is closed in order on the way out."""
    raise SystemExit(by_signal(number))


def _log(error: Exception) -> str:
    """Write the traceback of a bug to the log; says where it is described."""
    from labbench import folders
    from labbench.session.writing import privately

    try:
        log = folders.log()
        log.parent.mkdir(parents=True, exist_ok=True)
        with open(log, "a", encoding="utf-8", errors="replace", opener=privately) as file:
            file.write(traceback.format_exc())
    except OSError as problem:
        where = traceback.extract_tb(error.__traceback__)[-1]
        there = f"{Path(where.filename).name}, line {where.lineno}"
        return f"{type(error).__name__}: {error} ({there}; the log cannot be written: {problem.strerror or problem})"
    return f"{log} describes it"


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] not in COMMANDS:
        if problem := _no_such_command(arguments):
            return say(problem, BAD)
        return _app(app_parser().parse_args(arguments))
    given = command_parser(arguments[0]).parse_args(arguments[1:])
    if arguments[0] == "play":
        return _play(given)
    from labbench import commands, folders, listing, marking

    computing = arguments[0] in ("replay", "run", "export") or getattr(given, "recompute", False)
    if getattr(given, "form", "text") in ("json", "recipe"):
        streams.say_in_utf8()
    if computing and (trouble := folders.trouble()):
        say(trouble)
    match arguments[0]:
        case "check":
            return marking.check(
                given.files,
                given.tasks,
                given.form,
                recompute=given.recompute,
                device=given.device,
                data_dir=given.data_dir,
                trust_code=given.trust_code,
            )
        case "replay":
            return _replay(given)
        case "run":
            return commands.run(given.file, given.out, given.device, given.data_dir, given.trust_code)
        case "show":
            return listing.show(given.file, given.form, given.measures)
        case "compare":
            from labbench import comparing

            return comparing.compare(given.models, given.form, given.everything)
        case "sessions" | "pack" | "unpack":
            return _keep(arguments[0], given)
        case "list":
            return listing.catalogue(given.what, given.form)
        case _:
            return commands.export(given.file, given.to, given.force, given.device, given.data_dir, given.trust_code)


def app_parser() -> argparse.ArgumentParser:
    """What `labbench` takes without a command."""
    parser = Parser(
        prog="labbench",
        description="An interactive lab bench in the terminal for pruning neural networks by hand.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "file", nargs="?", type=_session_file, metavar="FILE", help="a session to continue, or a recipe (.toml)"
    )
    parser.add_argument(
        "--model", help="open this model at once, on --dataset (digits): a name, or code of your own: net.py:build"
    )
    parser.add_argument("--dataset", help="open this data set at once, with --model (lenet-5)")
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an option of the model, or an argument of your factory",
    )
    parser.add_argument("--data-option", action="append", default=[], metavar="NAME=VALUE", help="of the data set")
    parser.add_argument("--weights", default="", metavar="FILE", help="start from these weights")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps")
    parser.add_argument("--seed", type=int, default=0, help="of the initial weights")
    parser.add_argument("--session", type=Path, metavar="FILE", help="record here (a session that is there goes on)")
    _data_dir(parser)
    parser.add_argument("--version", action="version", version=f"labbench {__version__}")
    return parser


COMMANDS = {
    "play": "Watch a recorded session in the bench's screens, without torch.",
    "replay": "Do a session's finished operations again, one line each.",
    "run": "Do a recipe's operations, one line each.",
    "show": "Show what a session did, the layers now, and the sums.",
    "compare": "Compare models: points of one session, or of several, side by side.",
    "check": "Say whether the tasks of sessions were met, a line each.",
    "sessions": "List the session files of a folder and the sizes of their checkpoints, or drop checkpoints.",
    "pack": "Write a session and the checkpoints of its points into one archive, to go on with it on another machine.",
    "unpack": "Take a session and its checkpoints out of an archive. Everything is checked before anything is written.",
    "list": "List what can be chosen, with knobs, ranges and defaults.",
    "export": "Write a session's final model to a file: weights (.safetensors, .pth, .pt) or a program (.pt2, .onnx).",
}


def command_parser(name: str) -> argparse.ArgumentParser:
    """What one of the commands takes."""
    parser = Parser(prog=f"labbench {name}", description=COMMANDS[name])
    if name == "list":
        parser.add_argument("what", choices=LISTS, metavar="|".join(LISTS), help="what to list")
        form = parser.add_mutually_exclusive_group()
        form.add_argument("--json", dest="form", action="store_const", const="json", default="text", help="as JSON")
        form.add_argument(
            "--table", dest="form", action="store_const", const="table", help="models: the table of the README"
        )
        return parser
    if name == "compare":
        parser.add_argument(
            "models", nargs="+", metavar="FILE[@POINT]", help="a session, and the number or name of a point of it"
        )
        parser.add_argument("--json", dest="form", action="store_const", const="json", default="text", help="as JSON")
        parser.add_argument("--all", dest="everything", action="store_true", help="layers that do not differ, too")
        return parser
    if name in ("sessions", "pack", "unpack"):
        return _keeping_parser(name, parser)
    if name == "check":
        parser.add_argument("files", nargs="+", type=_session_file, metavar="FILE", help="sessions")
        parser.add_argument(
            "--tasks",
            type=_session_file,
            metavar="FILE",
            help="the tasks of this session or recipe count, not those in the files",
        )
        parser.add_argument("--json", dest="form", action="store_const", const="json", default="text", help="as JSON")
        parser.add_argument(
            "--recompute",
            action="store_true",
            help="do every session again: what comes out here counts, and figures that were edited are found",
        )
        _computing(parser)
        return parser
    kind = Path if name == "run" else _session_file
    parser.add_argument("file", type=kind, metavar="RECIPE" if name == "run" else "FILE", help=_file_help(name))
    if name == "replay":
        _replay_options(parser)
    if name == "show":
        form = parser.add_mutually_exclusive_group()
        form.add_argument("--json", dest="form", action="store_const", const="json", default="text", help="as JSON")
        form.add_argument("--recipe", dest="form", action="store_const", const="recipe", help="as a recipe (TOML)")
        parser.add_argument("--measures", action="store_true", help="every measure of the model; with --json, too")
    if name in ("replay", "run"):
        parser.add_argument("--out", type=Path, metavar="SESSION", help="record to this new file")
    if name == "export":
        parser.add_argument(
            "--to",
            type=Path,
            required=True,
            metavar="MODEL.ENDING",
            help="the file to write; its ending says the format",
        )
        parser.add_argument("--force", action="store_true", help="replace the file if it is there")
    if name == "play":
        _data_dir(parser)
    if name in ("replay", "run", "export"):
        _computing(parser)
    return parser


def _computing(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--trust-code", action="store_true", help="run the code of a model of your own that the file names"
    )
    parser.add_argument("--device", default="", help="compute here instead: auto, cpu, cuda, cuda:1, mps")
    _data_dir(parser)


def _keeping_parser(name: str, parser: Parser) -> Parser:
    if name == "sessions":
        parser.add_argument("folder", nargs="?", type=Path, metavar="FOLDER", help="instead of labbench's own")
        parser.add_argument(
            "--prune",
            nargs="?",
            const="",
            metavar="SIZE",
            help="drop checkpoints of all sessions, those used longest ago first, until SIZE is left (2GB); "
            "without SIZE, all that can be computed again",
        )
        parser.add_argument(
            "--check",
            action="store_true",
            help="read every session and every checkpoint through: what is broken or left over, and what to do; "
            "exit code 1 if there is anything",
        )
        parser.add_argument(
            "--repair",
            action="store_true",
            help="with --check: remove broken checkpoints and what killed processes left; never a session",
        )
        parser.add_argument("--json", dest="form", action="store_const", const="json", default="text", help="as JSON")
        return parser
    if name == "pack":
        parser.add_argument("file", type=_session_file, metavar="FILE", help="a session")
        parser.add_argument("--to", type=Path, metavar="ARCHIVE", help="beside FILE, with .labbench.zip at the end")
        parser.add_argument("--force", action="store_true", help="replace the archive if it is there")
    else:
        parser.add_argument("file", type=Path, metavar="ARCHIVE", help="what labbench pack wrote")
        parser.add_argument("--to", type=Path, default=Path(), metavar="FOLDER", help="for the session file (here)")
        parser.add_argument("--force", action="store_true", help="replace the session file if it is there")
    return parser


def _keep(name: str, given: argparse.Namespace) -> int:
    from labbench import keeping

    match name:
        case "sessions":
            return keeping.sessions(given.folder, given.form, given.prune, given.check, given.repair)
        case "pack":
            return keeping.pack(given.file, given.to, given.force)
        case _:
            return keeping.unpack(given.file, given.to, given.force)


def _replay_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--check", action="store_true", help="compare each step with the recording")
    parser.add_argument(
        "--from",
        dest="first",
        type=int,
        default=1,
        metavar="N",
        help="begin with step N, as `labbench show` numbers them; those before come from checkpoints, or are computed",
    )
    parser.add_argument("--until", type=int, metavar="N", help="end with step N")
    parser.add_argument(
        "--set",
        dest="settings",
        action="append",
        default=[],
        metavar="STEP.FIELD=VALUE",
        help="vary a step: 4.amount=0.6, 4.options.p=1; from there on methods choose filters again and --check only "
        "says what was varied; may be given several times",
    )
    parser.add_argument(
        "--repeat",
        metavar="SEEDS",
        help="do it once for each of 0-4, 0,3,7 or a count, added to every seed in it (0: as recorded); "
        "gives mean ± standard deviation for each step",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="with --repeat: all values, in this new file")
    parser.add_argument(
        "--keep", action="store_true", help="with --repeat: write the spread into FILE; --check then allows for it"
    )


def _replay(given: argparse.Namespace) -> int:
    from labbench import commands, repeat
    from labbench.session.check import BadInput
    from labbench.session.vary import seeds_from, setting_from

    try:
        settings = [_said("--set", setting_from, text) for text in given.settings]
        seeds = None if given.repeat is None else _said("--repeat", seeds_from, given.repeat)
    except BadInput as error:
        return say(str(error), BAD)
    which = {"first": given.first, "until": given.until, "settings": settings}
    if seeds is None:
        if given.json or given.keep:
            return say("--json and --keep go with --repeat", BAD)
        return commands.replay(
            given.file, given.check, given.out, given.device, given.data_dir, given.trust_code, **which
        )
    if given.check or given.out:
        return say(
            "--repeat does it with other seeds: it compares and records nothing, so leave out --check, --out", BAD
        )
    if given.keep and settings:
        return say("--keep is for the session as it is: leave out --set", BAD)
    return repeat.repeat(
        given.file,
        seeds,
        json=given.json,
        keep=given.keep,
        device=given.device,
        data_dir=given.data_dir,
        trust_code=given.trust_code,
        **which,
    )


def _said(flag: str, read: Callable[[str], Read], text: str) -> Read:
    """What an option's text means, or a refusal that begins with the option."""
    from labbench.session.check import BadInput

    try:
        return read(text)
    except BadInput as error:
        raise BadInput(f"{flag} {error}") from None


def _session_file(name: str) -> Path:
    from labbench.folders import session_file

    return session_file(name)


def _file_help(name: str) -> str:
    return {"run": "a recipe (.toml)", "show": "a session or a recipe (.toml)"}.get(name, "a session")


def _data_dir(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data-dir", type=Path, metavar="DIR", help="where data sets lie or are downloaded to")


def _app(given: argparse.Namespace) -> int:
    from labbench.session import recipe as recipes
    from labbench.session.check import BadInput
    from labbench.session.jsonl import BadFile

    recipe: Recipe | None = None
    session_path = given.session
    try:
        load = _load(given)
        if given.file:
            if problem := _unusable(given):
                return say(problem, BAD)
            if given.file.suffix == ".toml":
                recipe = recipes.read(given.file)
            else:
                session_path = given.file
        if load and session_path and session_path.exists():
            return say(f"{session_path} is there and goes on as it is; leave out --model and --dataset", BAD)
    except BadInput as error:
        return say(str(error), BAD)
    if code := _no_terminal():
        return code
    from labbench.tui.start import main as start

    try:
        return start(session_path=session_path, load=load, recipe=recipe, data_dir=given.data_dir)
    except BadFile as error:
        return say(str(error), BAD)


def _no_such_command(arguments: list[str]) -> str:
    """A sentence where the first argument is a mistyped command, or ""."""
    name = arguments[0] if arguments else ""
    if not name or name.startswith("-") or Path(name).suffix or os.path.exists(_session_file(name)):
        return ""
    close = difflib.get_close_matches(name, COMMANDS, n=1)
    hint = f"did you mean labbench {close[0]}?" if close else f"the commands are {', '.join(COMMANDS)}"
    return f"no command or file {name}; {hint}"


def _unusable(given: argparse.Namespace) -> str:
    """Why the file that the app was given cannot be opened, or ""."""
    name = str(given.file)
    if not given.file.exists():
        folder = given.file.parent
        there = [path.name for path in folder.iterdir()] if folder.is_dir() else []
        near = difflib.get_close_matches(given.file.name, there, n=1)
        return f"no file {name}" + (f"; did you mean {folder / near[0]}?" if near else "")
    if given.model or given.dataset:
        return f"{name} says what to open; leave out --model and --dataset"
    if given.session and given.file.suffix != ".toml":
        return f"{name} goes on in its own file; leave out --session"
    return ""


def _load(given: argparse.Namespace) -> "Load | None":
    """What to open at once. `BadInput` where the catalogue has no such thing."""
    from labbench.session.catalogue import shipped
    from labbench.session.check import BadInput, check_names, operation_from
    from labbench.session.jsonl import encode
    from labbench.session.operations import Load

    if not given.model and not given.dataset:
        if given.option or given.data_option or given.weights:
            raise BadInput("--option and --weights go with --model, --data-option goes with --dataset")
        return None
    fields: dict[str, object] = {"weights": given.weights, "seed": given.seed, "device": given.device}
    options = dict(_option("--option", text) for text in given.option)
    fields["data_options"] = dict(_option("--data-option", text) for text in given.data_option)
    model, dataset = given.model or "lenet-5", given.dataset or "digits"
    load = operation_from({"op": "load", "model": model, "dataset": dataset, "options": options, **fields})
    check_names(load, shipped())
    encode(load)  # what it says goes into a session: names that are not UTF-8 cannot
    assert isinstance(load, Load)
    return load


def _option(flag: str, text: str) -> "tuple[str, Value]":
    from labbench.session.options import option_from

    return _said(flag, option_from, text)


def _play(given: argparse.Namespace) -> int:
    from labbench.session.jsonl import BadFile, read

    try:
        _, session, notice = read(given.file)
    except BadFile as error:
        return say(str(error), BAD)
    if notice:
        say(notice)
    if code := _no_terminal():
        return code
    from labbench.tui.start import main as start

    return start(recording=session, session_path=given.file, data_dir=given.data_dir)


def _no_terminal() -> int:
    """0 where the app can be drawn; else the exit code, after a sentence that says what to use instead."""
    others = "without one use replay, run, show, compare, list or export (labbench --help)"
    if not all(stream.isatty() for stream in (sys.stdin, sys.stderr)) or os.environ.get("TERM") == "dumb":
        return say(f"the bench needs a terminal; {others}", CANNOT)
    if codecs.lookup(sys.stderr.encoding).name != "utf-8":
        forced = "PYTHONIOENCODING" in os.environ
        remedy = "unset PYTHONIOENCODING" if forced else "put LC_ALL=C.UTF-8 before the command"
        there = f"here it is {sys.stderr.encoding} ({remedy})"
        return say(f"the bench needs a terminal in UTF-8: {there}; {others}", CANNOT)
    return SAME

"""What the README promises: two commands that CI finds, recipes that parse, links and commands that exist."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from labbench import cli
from labbench.bench.apply import apply
from labbench.bench.data.dataset import Reading
from labbench.bench.datasets import DATASETS
from labbench.bench.exports import export
from labbench.bench.methods import METHODS
from labbench.bench.models import MODELS
from labbench.bench.regularizers import REGULARIZERS
from labbench.bench.states.state import Data
from labbench.bench.tools import Tools
from labbench.session import recipe
from labbench.session.events import EXPORT_FORMATS
from labbench.session.operations import Load, Prune
from labbench.tui.actions import WHICH, actions_for, shown

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)


def marked(mark: str) -> str:
    (command,) = re.findall(rf"^<!-- {mark} -->\n```sh\n(.*)\n```$", README, flags=re.MULTILINE)
    return str(command)


def test_there_are_two_commands_that_begin_with_nothing_but_python() -> None:
    assert len(re.findall(r"^<!-- setup-", README, flags=re.MULTILINE)) == 2
    start, test = marked("setup-and-start"), marked("setup-and-test")
    for command in (start, test):
        assert command.startswith("python3 -m venv .venv && .venv/bin/pip install ")
        assert subprocess.run(["bash", "-n", "-c", command], check=False).returncode == 0
    assert start.endswith("&& .venv/bin/labbench")
    assert test.endswith("&& .venv/bin/python -m pytest -n auto")


def test_ci_takes_the_second_command_from_the_readme() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    (line,) = [line for line in script.splitlines() if line.startswith("command=")]
    found = subprocess.run(
        ["bash", "-euc", f'{line}; printf %s "$command"'], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert found.stdout == marked("setup-and-test")
    assert "pip install" not in script and "pytest" not in script


def test_the_recipe_of_the_readme_is_one() -> None:
    text, series, question = blocks("toml")
    assert len(recipe.parse(text).steps) == 5
    assert len(recipe.parse(f"{text}\n{series}").steps) == 5 + 2 * 6
    assert recipe.parse(f"{text}\n{question}").steps[-1].ask


def test_the_python_of_the_readme_loads_an_export_without_the_app(tmp_path: Path) -> None:
    (block,) = [block for block in blocks("python") if "load_model" in block]
    assert len([line for line in block.splitlines() if line]) == 3
    tools = Tools(lambda name, options, side: Data(name, DATASETS[name].read(Reading(tmp_path)), False, side))
    state = apply(Load(model="lenet-300-100", dataset="digits", device="cpu"), None, tools).state
    state = apply(Prune(method="group-magnitude", amount=0.5), state, tools).state
    export(state, tmp_path / "small.safetensors")
    x = state.data.normalized(state.data.on(torch.device("cpu"))["test"][0][:20])
    torch.save(x, tmp_path / "images.pth")
    code = f"import torch\nimages = torch.load('images.pth')\n{block}\nprint(labels.tolist())"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == state.model(x).argmax(1).tolist()


def test_the_formats_of_the_readme_are_those_of_an_export() -> None:
    rows = re.findall(r"^\| ((?:`\.\w+` )+)\|", README, flags=re.MULTILINE)
    assert re.findall(r"`(\.\w+)`", "".join(rows)) == list(EXPORT_FORMATS)


def test_every_headless_command_has_an_example_that_can_be_meant() -> None:
    named = set()
    for line in "".join(blocks("sh")).splitlines():
        if not line.startswith("labbench "):
            continue
        words = line.partition("#")[0].split()[1:]
        if words[0] in cli.COMMANDS:
            cli.command_parser(words[0]).parse_args(words[1:])
            named.add(words[0])
        else:
            cli.app_parser().parse_args(words)
    assert named == set(cli.COMMANDS)


def test_the_table_of_models_is_that_of_the_catalogue(capsys: pytest.CaptureFixture[str]) -> None:
    """Regenerate it: `labbench list models --table` prints what stands between the two marks."""
    (command, table) = re.findall(r"^<!-- models: labbench (.*) -->\n(.*)^<!-- /models -->$", README, re.M | re.S)[0]
    assert cli.main(command.split()) == 0
    assert table == capsys.readouterr().out


def key_rows(heads: int) -> list[tuple[list[str], str]]:
    """The rows of a table of keys: keys, and what they do. Of its columns `heads` pairs are keys and words."""
    head = "|" + " key | does |" * heads
    (table,) = re.findall(rf"^{re.escape(head)}\n\|[-|]+\n((?:\|.*\n)+)", README, flags=re.MULTILINE)
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table.splitlines()]
    pairs = [(row[place], row[place + 1]) for row in cells for place in range(0, 2 * heads, 2)]
    return [(re.findall(r"`([^`]+)`", keys), words) for keys, words in pairs]


@pytest.mark.parametrize(("mode", "heads"), [("bench", 2), ("player", 1)])
def test_the_tables_of_keys_agree_with_the_program(mode: str, heads: int) -> None:
    bound = {action.key: action for action in actions_for(mode)}
    rows = key_rows(heads)
    for keys, words in rows:
        for key in map(shown, keys):
            assert key in bound, f"{key} of the README is no key of the {mode}"
            title = set(re.findall(r"\w{3,}|go", bound[key].title))
            assert title & set(re.findall(r"\w+", words)), f"{key} does {bound[key].title}, not {words}"
    told = {shown(key) for keys, _ in rows for key in keys}
    groups = ("Player",) if mode == "player" else ("Operations", "History", "Recipe")
    assert not [action.key for action in actions_for(mode) if action.group in groups and action.key not in told]


def test_the_readme_and_the_help_say_the_one_rule_for_which_layers_are_meant() -> None:
    rule = "perations mean the marked layers, or all when none is marked"
    assert rule in README and rule in WHICH


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`((?:labbench|\.ci|tests|sessions)/[\w./]*)`", README))))
def test_every_path_of_the_readme_is_there(path: str) -> None:
    assert (ROOT / path).exists()


def test_the_names_of_the_adding_recipes_are_there() -> None:
    for name, found in (
        *(("METHODS", METHODS), ("MODELS", MODELS)),
        *(("DATASETS", DATASETS), ("REGULARIZERS", REGULARIZERS)),
    ):
        assert f"`{name}`" in README and found

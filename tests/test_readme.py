"""What the README promises: two commands that CI finds, recipes that parse, links and commands that exist."""

import re
import subprocess
from pathlib import Path

import pytest

from labbench import cli
from labbench.bench.datasets import DATASETS
from labbench.bench.methods import METHODS
from labbench.bench.models import MODELS
from labbench.session import recipe

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)


def marked(mark: str) -> str:
    (command,) = re.findall(rf"^<!-- {mark} -->\n```sh\n(.*)\n```$", README, flags=re.MULTILINE)
    return str(command)


def test_there_are_two_commands_that_begin_with_nothing_but_python() -> None:
    assert len(re.findall(r"^<!--", README, flags=re.MULTILINE)) == 2
    start, test = marked("setup-and-start"), marked("setup-and-test")
    for command in (start, test):
        assert command.startswith("python3 -m venv .venv && .venv/bin/pip install ")
        assert subprocess.run(["bash", "-n", "-c", command], check=False).returncode == 0
    assert start.endswith("&& .venv/bin/labbench")
    assert test.endswith("&& .venv/bin/python -m pytest")


def test_ci_takes_the_second_command_from_the_readme() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    (line,) = [line for line in script.splitlines() if line.startswith("command=")]
    found = subprocess.run(
        ["bash", "-euc", f'{line}; printf %s "$command"'], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert found.stdout == marked("setup-and-test")
    assert "pip install" not in script and "pytest" not in script


def test_the_recipe_of_the_readme_is_one() -> None:
    text, series = blocks("toml")
    assert len(recipe.parse(text).steps) == 5
    assert len(recipe.parse(f"{text}\n{series}").steps) == 5 + 2 * 6


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


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`((?:labbench|\.ci|tests|sessions)/[\w./]*)`", README))))
def test_every_path_of_the_readme_is_there(path: str) -> None:
    assert (ROOT / path).exists()


def test_the_names_of_the_adding_recipes_are_there() -> None:
    for name, found in (("METHODS", METHODS), ("MODELS", MODELS), ("DATASETS", DATASETS)):
        assert f"`{name}`" in README and found

"""What the name of a model of one's own stands for, found out without running any of it."""

import sys
from pathlib import Path

import pytest

from labbench.session import recipe
from labbench.session.check import BadInput
from labbench.session.operations import Load, Note
from labbench.session.options import option_from, options_from, options_text
from labbench.session.own import brief, is_own, own_models, place_of, problem_of


@pytest.mark.parametrize("name", ["net.py:build", "~/nets/my net.py:Net", "/a/b.py:f", "torchvision.models:resnet18"])
def test_a_colon_makes_a_model_ones_own(name: str) -> None:
    assert is_own(name) and not problem_of(name)
    assert not is_own("lenet-5")


@pytest.mark.parametrize("name", ["net.py:", ":build", "net.py:1", "a b:f", "a-b:f", "x:y:z", "a..b:f", "net.py:f()"])
def test_what_names_no_factory_is_refused_with_an_example(name: str) -> None:
    assert "net.py:build" in problem_of(name)


def test_the_place_is_found_without_importing_even_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "nets_of_mine"
    package.mkdir()
    for name in ("__init__", "small"):
        (package / f"{name}.py").write_text("raise SystemExit('imported')")
    (tmp_path / "net.py").write_text("raise SystemExit('imported')")
    monkeypatch.chdir(tmp_path)
    assert place_of("nets_of_mine.small:build") == package / "small.py"
    assert place_of("nets_of_mine:build") == package / "__init__.py"
    assert place_of("net.py:build") == tmp_path / "net.py"
    assert place_of("net:build") == tmp_path / "net.py"
    for nothing in ("nets_of_mine.big:build", "nothing_here.at.all:build", "other.py:build"):
        assert place_of(nothing) is None
    assert not {"nets_of_mine", "net"} & set(sys.modules)


def test_operations_name_their_own_models_once() -> None:
    loads = [Load(model=name, dataset="digits") for name in ("net.py:build", "lenet-5", "net.py:build", "a.b:C")]
    assert own_models([*loads, Note(text="x:y")]) == ("net.py:build", "a.b:C")


def test_a_recipe_may_name_one_and_its_form_is_checked() -> None:
    text = 'title = "t"\n[[step]]\nop = "load"\nmodel = "{}"\ndataset = "digits"\noptions = {{width = 8}}\n'
    assert recipe.parse(text.format("net.py:build")).steps == (
        Load(model="net.py:build", dataset="digits", options={"width": 8}),
    )
    with pytest.raises(BadInput, match=r"step 1: .* such as net.py:build"):
        recipe.parse(text.format("net.py:1"))


def test_no_recipe_can_trust() -> None:
    with pytest.raises(BadInput, match="unknown op 'trust'"):
        recipe.parse('title = "t"\n[[step]]\nop = "trust"\nmodel = "net.py:build"\n')


def test_options_are_typed_by_what_they_look_like() -> None:
    text = "width=8 rate=0.5 norm=false name='two words'"
    options = {"width": 8, "rate": 0.5, "norm": False, "name": "two words"}
    assert options_from(text) == options
    assert options_from(options_text(options)) == options
    assert option_from("a=b=c") == ("a", "b=c")
    for wrong in ("width", "=3", "a='"):
        with pytest.raises(BadInput):
            options_from(wrong)


def test_the_folders_of_a_file_are_left_out_where_there_is_no_room() -> None:
    assert brief("/home/me/net.py:build") == "net.py:build"
    assert brief("a.b:C") == "a.b:C"

"""Operations as data: they describe themselves, survive every way of being written, and say what is wrong with them."""

import math
import re
from pathlib import Path

import pytest
from session_examples import LOAD, OPERATIONS

from labbench.session import recipe
from labbench.session.catalogue import knobs_of, operation_entries, shipped
from labbench.session.check import BadInput, check_names, operation_from
from labbench.session.jsonl import decode_request, encode
from labbench.session.operations import OPERATIONS as KINDS
from labbench.session.operations import Annotation, AnyOperation, Change, Finetune, Load, Look, Operation, Prune, Walk


def test_the_examples_have_one_of_each_operation() -> None:
    assert {type(operation) for operation in OPERATIONS} == set(KINDS.values())


def test_an_operation_is_of_exactly_one_kind() -> None:
    bases = (Change, Look, Walk, Annotation)
    assert set(Operation.__subclasses__()) == set(bases)  # else it is neither a point nor anything beside one
    assert list(KINDS.values()) == [kind for base in bases for kind in base.__subclasses__()]
    assert all(sum(issubclass(kind, base) for base in bases) == 1 for kind in KINDS.values())


def test_the_facts_of_fields_name_what_is_there() -> None:
    facts = {name for method in shipped().methods for name, value in method.facts.items() if value is True}
    facts |= {str(method.facts["granularity"]) for method in shipped().methods}
    for kind in KINDS.values():
        knobs = {knob.name: knob for knob in knobs_of(kind)}
        for knob in knobs.values():
            assert all(hasattr(shipped(), menu) for menu in knob.menus)
            assert set(knob.idle_for) <= facts
            assert not knob.fills or knobs[knob.fills].kind == "options"
            for other, values in knob.only_with.items():
                assert not knobs[other].choices or set(values) <= set(knobs[other].choices)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.describe()[:40])
def test_an_operation_survives_json(operation: AnyOperation) -> None:
    line = encode(operation)
    assert line.count(b"\n") == 1
    assert decode_request(line) == operation


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.describe()[:40])
def test_an_operation_survives_a_recipe(operation: AnyOperation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipe, "check_names", lambda operation, catalogue: None)
    written = recipe.write(recipe.Recipe(title="t", steps=(operation,)))
    assert recipe.parse(written).steps == (operation,)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.describe()[:40])
def test_an_operation_describes_itself_in_one_line(operation: AnyOperation) -> None:
    words = operation.describe()
    assert words and "\n" not in words and len(words) < 120


def test_every_operation_has_a_title_and_every_knob_an_explanation() -> None:
    for entry in operation_entries():
        assert entry.title and not entry.title.endswith(".")
        for knob in entry.knobs:
            assert knob.help, f"{entry.name}.{knob.name}"


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        (3, "an operation is a table with the key op, not 3"),
        ({}, "no op; the operations are load, freeze"),
        ({"op": "purne"}, "unknown op 'purne'; .*; did you mean prune?"),
        ({"op": ["prune"]}, "unknown op"),
        (
            {"op": "prune", "amont": 0.5},
            "prune has no key 'amont'; its keys are layers, amount.*; did you mean amount?",
        ),
        ({"op": "undo", "steps": 2}, "undo has no key 'steps'; it has no keys"),
        ({"op": "prune", "amount": 1.5}, "amount must be a number from 0 to 1, not 1.5"),
        ({"op": "prune", "amount": 50}, "from 0 to 1, not 50; for 50 % write 0.5"),
        ({"op": "prune", "amounts": {"conv1": 0.2, "fc1": 30}}, "; for 30 % write 0.3"),
        (
            {"op": "scan", "at": [0.1, 25]},
            "numbers above 0 below 1, such as .*; for 25 % write 0.25",
        ),
        ({"op": "prune", "amount": "half"}, "amount must be a number from 0 to 1, not 'half'"),
        ({"op": "prune", "amount": True}, "amount must be a number from 0 to 1, not True"),
        ({"op": "prune", "amount": math.nan}, "amount must be a number from 0 to 1, not nan"),
        ({"op": "prune", "layers": "conv1"}, "layers must be a list of texts, such as .*, not 'conv1'"),
        ({"op": "prune", "scope": "local"}, "scope must be one of layer, global, not 'local'"),
        ({"op": "prune", "options": {"p": math.inf}}, "options must be a table of names and values"),
        ({"op": "prune", "options": {"p": 2**64}}, "options must be a table of names and values"),
        ({"op": "prune", "options": [1]}, "options must be a table of names and values"),
        ({"op": "cluster", "layers": ["a"], "k": 2**64}, "k must be a whole number from 0"),
        ({"op": "cluster", "layers": ["a"], "k": 2.0}, "k must be a whole number from 0"),
        ({"op": "cluster", "layers": ["a"], "fraction": 0}, "fraction must be a number above 0 to 1, not 0"),
        ({"op": "name"}, "name needs the key"),
        ({"op": "finetune", "milestones": [1, "2"]}, "milestones must be a list of whole numbers"),
        ({"op": "finetune", "momentum": 1}, "momentum must be a number from 0 below 1, not 1"),
        ({"op": "finetune", "augment": 1}, "augment must be true or false, not 1"),
        ({"op": "finetune", "optimizer": "lion"}, "optimizer must be one of sgd, adam, adamw"),
        ({"op": "load", "model": "lenet-5"}, "load needs the key 'dataset': a name of the data set catalogue"),
        ({"op": "load", "model": 5, "dataset": "digits"}, "model must be text in quotes, not 5"),
        ({"op": "note", "text": ""}, "length"),
    ],
)
def test_what_is_wrong_is_refused_with_what_would_be_right(raw: object, sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence.replace("?", r"\?")):
        operation_from(raw)


def test_a_request_that_is_no_json_is_refused() -> None:
    for line in (b"", b"\n", b"{", b"\xff\xfe", b"[" * 100_000, b"null", b'"prune"'):
        with pytest.raises(BadInput):
            decode_request(line)


def test_a_preview_says_what_is_wrong_with_its_operation() -> None:
    with pytest.raises(BadInput, match="prune has no key 'amont'"):
        decode_request(b'{"op":"preview","operation":{"op":"prune","amont":1}}')


@pytest.mark.parametrize(
    ("operation", "sentence"),
    [
        (Load(model="lenet5", dataset="digits"), "no such model: lenet5; .*did you mean lenet-5?"),
        (Load(model="lenet-5", dataset="digit"), "no such data set: digit; .*did you mean digits?"),
        (Load(model="lenet-5", dataset="digits", options={"depth": 3}), "lenet-5 has no key 'depth'"),
        (Prune(method="magnitud"), "no such method: magnitud; the methods are .*did you mean magnitude?"),
        (Prune(method="magnitude", options={"q": 1}), "magnitude has no key 'q'"),
    ],
)
def test_names_that_the_catalogue_has_not_are_refused(operation: AnyOperation, sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence.replace("?", r"\?")):
        check_names(operation, shipped())


RECIPE = """
title = "A lesson"
about = "what it shows"
[[step]]
op = "load"
model = "lenet-5"
dataset = "digits"
[[step]]
op = "prune"
layers = ["conv*"]
amount = 0.5
"""


def test_a_recipe_decodes_into_operations() -> None:
    found = recipe.parse(RECIPE)
    assert (found.title, found.about) == ("A lesson", "what it shows")
    assert found.steps == (LOAD, Prune(layers=("conv*",), amount=0.5))


def test_a_recipe_of_what_was_done_leaves_the_choice_of_filters_open() -> None:
    done = (LOAD, Prune(method="fpgm", filters={"conv1": (0, 7)}))
    assert recipe.of("A lesson", done).steps == (LOAD, Prune(method="fpgm"))
    given = recipe.parse(recipe.write(recipe.Recipe(title="A lesson", steps=done)))
    assert given.steps == done


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            ("amount = 0.5", "filters = {conv1 = 3}"),
            "filters must be a table of lists of whole numbers by name, such as",
        ),
        (("amount", "amonut"), "step 2: prune has no key 'amonut'; .*did you mean amount?"),
        (("0.5", '"0.5"'), "step 2: prune: amount must be a number from 0 to 1, not '0.5'"),
        (('"prune"', '"trim"'), "step 2: unknown op 'trim'; the operations are"),
        (('"digits"', '"digitz"'), "step 1: no such data set: digitz; .*did you mean digits?"),
        (("title =", "titel ="), "unknown key 'titel'; a recipe has title, about, step; did you mean title?"),
        (('title = "A lesson"', ""), 'a recipe begins with title = "…"'),
        (('title = "A lesson"', "title = 3"), 'a recipe begins with title = "…"'),
        (('"what it shows"', "[1]"), "about must be text in quotes, not \\[1\\]"),
        (("[[step]]", "[step]"), "not TOML"),
        (("amount = 0.5", "amount ="), "not TOML: .*line 11"),
        (("amount = 0.5", "amount = 2024-01-01"), "amount must be a number from 0 to 1"),
        (("amount = 0.5", f"seed = {'9' * 5000}"), "not TOML"),
    ],
)
def test_a_recipe_is_refused_with_file_step_and_remedy(change: tuple[str, str], sentence: str, tmp_path: Path) -> None:
    file = tmp_path / "lesson.toml"
    file.write_text(RECIPE.replace(*change), encoding="utf-8")
    with pytest.raises(BadInput, match=f"^{re.escape(str(file))}: .*" + sentence.replace("?", r"\?")):
        recipe.read(file)


def test_a_recipe_without_steps_is_refused() -> None:
    with pytest.raises(BadInput, match="at least one table"):
        recipe.parse('title = "t"')


def test_a_recipe_that_is_no_text_or_not_there_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "lesson.toml"
    with pytest.raises(BadInput, match="No such file"):
        recipe.read(file)
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadInput, match="UTF-8"):
        recipe.read(file)


def test_a_regularizer_must_be_in_the_catalogue_unless_there_is_none() -> None:
    check_names(operation_from({"op": "finetune"}), shipped())
    check_names(operation_from({"op": "finetune", "regularizer": "hoyer-square"}), shipped())
    with pytest.raises(
        BadInput, match=r"no such regularizer: hoyr; the regularizers are l1, hoyer.*did you mean hoyer\?"
    ):
        check_names(operation_from({"op": "finetune", "regularizer": "hoyr"}), shipped())


def test_a_finetune_tells_what_is_special_about_it() -> None:
    assert Finetune(resume=True).describe() == "finetune, going on with the stopped run"
    words = Finetune(epochs=3, regularizer="l1", strength=0.01, distill=0.5, resume=True, steps=9).describe()
    assert words == "finetune 3 epochs (sgd, lr 0.05, cosine, l1 0.01, distilled 50 %, resumed, stopped at step 9)"
    assert Finetune(steps=4).describe() == "finetune 10 epochs (sgd, lr 0.05, cosine, stopped at step 4)"

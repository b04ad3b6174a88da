"""States as files: all of a state comes back; files that do not fit, or that want to run code, are refused."""

import hashlib
import os
import pickle
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from bench_examples import Opened, answers, distinct, do, picture, with_weights
from safetensors.torch import load_file, save_file

from labbench.bench.apply import apply
from labbench.bench.errors import BenchError
from labbench.bench.states.checkpoints import RECORD, Cache, Record, fill, read, save
from labbench.bench.states.fingerprint import fingerprint
from labbench.bench.states.opened import fresh
from labbench.bench.states.state import State
from labbench.bench.tools import Tools
from labbench.session.operations import AnyOperation, Cluster, Evaluate, Finetune, Freeze, Load, Prune, Unprune

CUT = Prune(method="group-magnitude", amount=0.4)
STATES: dict[str, tuple[AnyOperation, ...]] = {
    "as loaded": (),
    "masked": (Prune(amount=0.6),),
    "clustered": (Cluster(layers=("*",), fraction=0.4),),
    "cut": (CUT,),
    "cut twice": (CUT, Prune(method="group-magnitude", amount=0.7, scope="global")),
    "all three": (Prune(amount=0.5), Cluster(layers=("conv2",), k=9), CUT, Prune(layers=("fc1",), amount=0.9)),
    "trained": (Prune(amount=0.5), Cluster(layers=("conv2",), k=9), CUT, Finetune(epochs=1, lr=0.01)),
    "partly unpruned": (Prune(amount=0.5), Unprune(layers=("conv2",)), Prune(layers=("conv2",), amount=0.2)),
}


@pytest.fixture(params=STATES)
def state(request: pytest.FixtureRequest, opened: Opened) -> State:
    return do(opened("lenet-5"), *STATES[request.param])


def again(state: State, path: Path, tools: Tools) -> State:
    """What a file gives on a freshly loaded model."""
    tensors, record = read(path)
    return fill(fresh(state.load, tools.data), tensors, record, path)


def same(one: State, other: State) -> None:
    """Fails unless two states are equal in everything but the operation that made them."""
    assert fingerprint(one) == fingerprint(other)
    assert (dict(one.kept), dict(one.last)) == (dict(other.kept), dict(other.last))
    assert repr(one.model) == repr(other.model)
    assert torch.equal(answers(one), answers(other))
    for mine, yours in ((one.masks, other.masks), (one.clusters, other.clusters)):
        assert mine.keys() == yours.keys()
        assert all(torch.equal(mine[name], yours[name]) and mine[name].dtype == yours[name].dtype for name in mine)


def test_a_state_comes_back_from_its_file(state: State, tools: Tools, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "model.safetensors"
    before = picture(state)
    assert save(state, path) == path.stat().st_size
    assert picture(state) == before
    made = again(state, path, tools)
    same(made, state)
    assert all(p.requires_grad for p in made.model.parameters())
    assert not any(module.training for module in made.model.modules())
    assert os.listdir(path.parent) == ["model.safetensors"]


def test_a_state_comes_back_through_load(state: State, tools: Tools, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save(state, path)
    made = apply(Load(model="lenet-5", dataset="digits", weights=str(path), device="cpu"), None, tools)
    same(made.state, state)
    assert isinstance(made.operation, Load)
    assert made.operation.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert apply(made.operation, None, tools).operation == made.operation


def test_a_state_goes_on_from_its_file_as_it_would_have(state: State, tools: Tools, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save(state, path)
    made = again(state, path, tools)
    next_steps = (Prune(layers=("fc1",), amount=0.95), Finetune(epochs=1, lr=0.01, steps=2))
    assert fingerprint(do(made, *next_steps)) == fingerprint(do(state, *next_steps))


def test_the_file_of_a_cut_network_is_a_plain_state_dict(opened: Opened, tmp_path: Path) -> None:
    state = do(opened("lenet-5"), CUT)
    path = tmp_path / "model.safetensors"
    save(state, path)
    tensors = load_file(path)
    expected = state.model.state_dict()
    assert tensors.keys() == expected.keys()
    assert all(torch.equal(tensors[name], expected[name]) for name in tensors)


def test_zeros_that_were_unpruned_or_are_there_by_chance_are_not_held_again(
    opened: Opened, tools: Tools, tmp_path: Path
) -> None:
    state = do(opened("lenet-5"), Prune(amount=0.5), Unprune())
    assert not state.masks
    save(state, tmp_path / "unpruned.safetensors")
    assert not again(state, tmp_path / "unpruned.safetensors", tools).masks
    partly = do(state, Prune(layers=("fc2",), amount=0.2))
    assert int((partly.weight("fc2") == 0).sum()) == 2500
    assert int((~partly.masks["fc2"]).sum()) == 1000
    save(partly, tmp_path / "partly.safetensors")
    made = again(partly, tmp_path / "partly.safetensors", tools)
    assert torch.equal(made.masks["fc2"], partly.masks["fc2"])


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("suffix", [".pth", ".pt"])
def test_a_plain_state_dict_can_be_loaded(
    opened: Opened, tools: Tools, tmp_path: Path, wrapped: bool, suffix: str
) -> None:
    state = do(opened("lenet-5"), Finetune(epochs=1, lr=0.01, steps=1))
    weights = state.model.state_dict()
    path = tmp_path / f"weights{suffix}"
    torch.save({"state_dict": weights, "epoch": 3} if wrapped else weights, path)
    made = apply(Load(model="lenet-5", dataset="digits", weights=str(path), device="cpu"), None, tools).state
    assert torch.equal(answers(made), answers(state))
    assert not made.masks


def test_a_file_of_safetensors_without_a_record_can_be_loaded(opened: Opened, tools: Tools, tmp_path: Path) -> None:
    path = tmp_path / "foreign.safetensors"
    save_file({name: value.contiguous() for name, value in opened("lenet-5").model.state_dict().items()}, path)
    made = again(opened("lenet-5"), path, tools)
    same(made, opened("lenet-5"))


# Refusals


class Burglar:
    """Pickled, it wants to make a file when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("how", ["pickle", "torch", "as safetensors"])
def test_a_file_that_wants_to_run_code_is_refused_and_did_not_run(tmp_path: Path, how: str) -> None:
    trace = tmp_path / "burgled"
    path = tmp_path / ("model.safetensors" if how == "as safetensors" else "model.pth")
    if how == "torch":
        torch.save({"state_dict": {"fc.weight": torch.zeros(2)}, "extra": Burglar(trace)}, path)
    else:
        path.write_bytes(pickle.dumps({"weights": Burglar(trace)}))
    with pytest.raises(BenchError, match=r"is no file of plain weights; .* Nothing of it was run"):
        read(path)
    assert not trace.exists()
    pickle.loads(pickle.dumps(Burglar(trace)))
    assert trace.exists(), "the burglar is able to"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    for name in ("nothing.safetensors", "nothing.pth"):
        with pytest.raises(BenchError, match=rf"no such file of weights: .*{name}"):
            read(tmp_path / name)


@pytest.mark.parametrize("size", [0, 5, 100, 20_000])
def test_a_file_that_was_cut_short_is_refused(opened: Opened, tmp_path: Path, size: int) -> None:
    for suffix in (".safetensors", ".pth"):
        path = tmp_path / f"model{suffix}"
        if suffix == ".pth":
            torch.save(opened("lenet-5").model.state_dict(), path)
        else:
            save(opened("lenet-5"), path)
        path.write_bytes(path.read_bytes()[:size])
        with pytest.raises(BenchError, match="is no file of plain weights"):
            read(path)


@pytest.mark.parametrize("content", [[1, 2], {"epoch": 3}, torch.zeros(3), {"state_dict": {"lr": 0.1}}])
def test_what_holds_no_state_dict_is_refused(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "model.pth"
    torch.save(content, path)
    with pytest.raises(BenchError, match="holds no state_dict: names and tensors were expected"):
        read(path)


def test_files_that_are_no_weights_at_all_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "model.pt", "w") as archive:
        archive.writestr("hello.txt", "hello")
    (tmp_path / "model.pth").write_text("hello")
    (tmp_path / "folder.pth").mkdir()
    for name in ("model.pt", "model.pth", "folder.pth"):
        with pytest.raises(BenchError, match="is no file of plain weights"):
            read(tmp_path / name)


def test_a_file_that_does_not_fit_is_refused_with_the_first_differing_tensors(
    opened: Opened, tools: Tools, tmp_path: Path
) -> None:
    path = tmp_path / "weights.pth"
    weights = opened("lenet-5").model.state_dict()
    weights["conv2.weight"] = weights["conv2.weight"][:, :7]
    del weights["fc1.bias"]
    torch.save({**weights, "extra": torch.tensor(1.0), "more": torch.zeros(2, 3)}, path)
    with pytest.raises(BenchError) as caught:
        again(opened("lenet-5"), path, tools)
    assert str(caught.value) == (
        f"{path} does not fit the model: conv2.weight 50×20×5×5 in the model, 50×7×5×5 in the file; "
        "fc1.bias 500 in the model, absent in the file; extra absent in the model, one number in the file and 1 more"
    )


def test_a_file_of_another_model_or_with_other_options_is_refused(opened: Opened, tools: Tools, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save(do(opened("lenet-300-100"), CUT), path)
    with pytest.raises(BenchError, match=r"holds a lenet-300-100, not a lenet-5"):
        apply(Load(model="lenet-5", dataset="digits", weights=str(path)), None, tools)
    save(do(opened("resnet-20", "B"), CUT), path)
    with pytest.raises(BenchError, match=r"does not fit this model|does not fit the model"):
        apply(Load(model="resnet-20", dataset="digits", weights=str(path)), None, tools)


def test_a_file_that_is_not_the_recorded_one_is_refused(opened: Opened, tools: Tools, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save(opened("lenet-5"), path)
    load = Load(model="lenet-5", dataset="digits", weights=str(path), device="cpu")
    recorded = apply(load, None, tools).operation
    save(do(opened("lenet-5"), Prune()), path)
    with pytest.raises(BenchError, match=r"is not the file that was loaded when this was recorded \(its SHA-256"):
        apply(recorded, None, tools)
    apply(load, None, tools)


def rewritten(path: Path, **changes: Any) -> None:
    """Change the record of a file."""
    tensors, record = read(path)
    assert record is not None
    text = msgspec.json.encode(msgspec.structs.replace(record, **changes)).decode()
    save_file(tensors, path, {"format": "pt", RECORD: text})


@pytest.mark.parametrize(
    "changes",
    [
        {"kept": {"conv9": ((0,), None)}},
        {"kept": {"conv1": ((0, 99), None)}},
        {"masked": ("conv9",)},
        {"loose_zeros": {"conv1": (0,)}},
        {"masked": ("conv1",), "loose_zeros": {"conv1": (10**6,)}},
        {"clusters": {"conv9": (0,) * 20}},
        {"clusters": {"conv1": (0, 1)}},
    ],
    ids=str,
)
def test_a_record_that_does_not_fit_is_refused(
    opened: Opened, tools: Tools, tmp_path: Path, changes: dict[str, Any]
) -> None:
    path = tmp_path / "model.safetensors"
    save(opened("lenet-5"), path)
    rewritten(path, **changes)
    with pytest.raises(BenchError, match="its labbench record does not fit this model"):
        again(opened("lenet-5"), path, tools)
    cache = Cache(tmp_path, 10**9)
    cache.put("key", opened("lenet-5"))
    text = msgspec.json.encode(msgspec.json.decode(entry_of(cache, "key")["text"]) | changes).decode()
    cache.store.path("key").write_bytes(msgspec.json.encode(entry_of(cache, "key") | {"text": text}))
    assert cache.get("key", lambda: fresh(opened("lenet-5").load, tools.data)) is None


@pytest.mark.parametrize("text", ["{", "{}", '{"format": "one"}', '{"from": "the future"}'])
def test_a_record_that_cannot_be_read_is_refused(opened: Opened, tmp_path: Path, text: str) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"a": torch.zeros(1)}, path, {RECORD: text})
    with pytest.raises(BenchError, match="its labbench record cannot be read"):
        read(path)


def test_a_place_that_cannot_be_written_is_named(opened: Opened, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(BenchError, match=r"cannot write .*model\.safetensors"):
        save(opened("lenet-5"), tmp_path / "file" / "model.safetensors")
    (tmp_path / "taken.safetensors").mkdir()
    with pytest.raises(BenchError, match=r"cannot write .*taken\.safetensors"):
        save(opened("lenet-5"), tmp_path / "taken.safetensors")
    assert sorted(os.listdir(tmp_path)) == ["file", "taken.safetensors"], "nothing half written remains"


# The cache


def test_a_cached_state_comes_back_whole_with_what_is_frozen_and_its_figures(
    state: State, tools: Tools, tmp_path: Path
) -> None:
    cache = Cache(tmp_path, 10**9)
    state = do(state, Freeze(layers=("conv1",)), Evaluate(), tools=tools)
    assert cache.get("key", lambda: pytest.fail("nothing is loaded for a key that is not there")) is None
    cache.put("key", state)
    made = cache.get("key", lambda: fresh(state.load, tools.data))
    assert made is not None
    same(made, state)
    assert made.frozen == {"conv1"}
    assert made.accuracy == state.accuracy


def files(cache: Cache) -> dict[str, int]:
    """The objects of a cache: the beginning of the name, and bytes."""
    return {path.stem[:8]: path.stat().st_size for path in cache.store.folder.glob("objects/*/*")}


def age(cache: Cache, key: str, seconds: float) -> None:
    """As if a state had been used that long after 1970."""
    os.utime(cache.store.path(key), (seconds, seconds))


def kept(cache: Cache) -> set[str]:
    return {entry.key for entry in cache.store.entries()}


def test_only_tensors_that_changed_are_stored_again(opened: Opened, tmp_path: Path) -> None:
    cache = Cache(tmp_path, 10**9)
    state = opened("resnet-20")
    cache.put("loaded", state)
    before = files(cache)
    assert sum(before.values()) > 4 * 269_722, "all weights are there"
    weight = state.weight("layer2.0.conv1").nbytes
    cache.put("frozen", do(state, Freeze(layers=("conv1",))))
    assert files(cache) == before
    cache.put("pruned", do(state, Prune(layers=("layer2.0.conv1",), amount=0.5)))
    new = {name: size for name, size in files(cache).items() if name not in before}
    assert len(new) == 2, "the layer's weight, and its last values"
    assert all(weight < size < weight + 100 for size in new.values())


@pytest.mark.parametrize("gone", [False, True])
def test_a_zero_of_another_sign_is_another_tensor_and_a_lost_one_is_written_again(
    opened: Opened, tools: Tools, tmp_path: Path, gone: bool
) -> None:
    cache = Cache(tmp_path, 10**9)
    state = opened("lenet-300-100")
    weight = state.weight("fc1").clone()
    for number, zero in enumerate((0.0, -0.0, -0.0)):
        weight[0, 0] = zero
        changed = with_weights(state, {"fc1": weight})
        if gone:
            shutil.rmtree(tmp_path / "objects", ignore_errors=True)
        cache.put(str(number), changed)
        found = cache.get(str(number), lambda: fresh(state.load, tools.data))
        assert found is not None
        assert fingerprint(found) == fingerprint(changed)


def test_a_tensor_that_stands_twice_in_a_model_is_stored_once(opened: Opened, tmp_path: Path) -> None:
    cache = Cache(tmp_path, 10**9)
    state = opened("lenet-300-100")
    cache.put("a", state)
    once = files(cache)
    cache.put("b", replace(state, values={"fc1": state.weight("fc1")}))
    assert files(cache) == once


def test_clusters_of_places_are_stored_once_and_in_few_bytes(opened: Opened, tools: Tools, tmp_path: Path) -> None:
    cache = Cache(tmp_path, 10**9)
    state = opened("lenet-300-100")
    size = state.weight("fc1").numel()
    labels = torch.arange(size).view_as(state.weight("fc1")) % 300
    filters = {"fc2": torch.arange(100) % 7}
    cache.put("key", state)
    before = cache.store.size()
    cache.put("clustered", replace(state, clusters={"fc1": labels, **filters}))
    assert 2 * size < cache.store.size() - before < 2.1 * size
    before = cache.store.size()
    cache.put("frozen", replace(state, clusters={"fc1": labels, **filters}, frozen=frozenset(("fc1",))))
    assert cache.store.size() - before < 5000
    found = cache.get("frozen", lambda: fresh(state.load, tools.data))
    assert found is not None
    for name, expected in {"fc1": labels, **filters}.items():
        assert found.clusters[name].dtype == torch.int64
        assert torch.equal(found.clusters[name], expected)


def test_the_states_that_were_used_longest_ago_leave_a_full_cache(opened: Opened, tools: Tools, tmp_path: Path) -> None:
    loaded = opened("lenet-300-100")
    weight = loaded.weight("fc1")  # nearly all of it
    states = [with_weights(loaded, {"fc1": distinct(tuple(weight.shape), seed)}) for seed in range(4)]
    cache = Cache(tmp_path, int(3.8 * weight.nbytes))
    for number, key in enumerate(("a", "b", "c")):
        cache.put(key, states[number])
        age(cache, key, number)
    assert kept(cache) == {"a", "b", "c"}
    assert cache.get("a", lambda: fresh(loaded.load, tools.data)) is not None  # used just now
    cache.put("d", states[3])
    assert kept(cache) == {"a", "c", "d"}
    assert cache.store.size() <= cache.limit
    for key in "acd":
        assert cache.get(key, lambda: fresh(loaded.load, tools.data)) is not None


def test_the_newest_state_stays_even_if_it_alone_is_too_large(opened: Opened, tmp_path: Path) -> None:
    cache = Cache(tmp_path, 10)
    cache.put("a", opened("lenet-300-100"))
    age(cache, "a", 1)
    cache.put("b", opened("lenet-300-100"))
    assert kept(cache) == {"b"}


def entry_of(cache: Cache, key: str) -> Any:
    return msgspec.json.decode(cache.store.path(key).read_bytes())


@pytest.mark.parametrize("content", [b"", b"garbage", b"\xff" * 200, b"[" * 10**5, b"{}"])
def test_a_broken_file_of_the_cache_is_no_state(opened: Opened, tools: Tools, tmp_path: Path, content: bytes) -> None:
    cache = Cache(tmp_path, 10**9)
    state = opened("lenet-5")
    cache.put("key", state)
    largest = max(tmp_path.glob("objects/*/*"), key=lambda path: path.stat().st_size)
    largest.write_bytes(content)
    assert cache.get("key", lambda: fresh(state.load, tools.data)) is None
    cache.put("key", state)
    assert cache.get("key", lambda: fresh(state.load, tools.data)) is not None, "written again, it is whole"
    cache.store.path("key").write_bytes(content)
    assert cache.get("key", lambda: pytest.fail("nothing is loaded for a broken entry")) is None


def test_a_changed_byte_of_a_weight_is_noticed(opened: Opened, tools: Tools, tmp_path: Path) -> None:
    cache = Cache(tmp_path, 10**9)
    cache.put("key", opened("lenet-5"))
    largest = max(tmp_path.glob("objects/*/*"), key=lambda path: path.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[-2] ^= 1
    largest.write_bytes(content)
    assert cache.get("key", lambda: pytest.fail("nothing is loaded for broken tensors")) is None
    assert not largest.exists()


@pytest.mark.parametrize(
    "change",
    [
        {"text": "{"},
        {"text": "{}"},
        {"text": "null"},
        {"pieces": []},
        {"format": 2},
        {"more": 1},
        {"pieces": [{"object": "../../../etc/passwd", "size": 3, "names": ["a"]}]},
        {"pieces": [{"object": "a" * 64 + "\n", "size": 3, "names": ["a"]}]},
        {"pieces": [{"object": "a" * 64, "size": 2**62, "names": ["a"]}]},
        {"pieces": [{"object": "a" * 64, "size": 10**30, "names": ["a"]}]},
    ],
    ids=str,
)
def test_an_entry_with_other_content_is_no_state(
    opened: Opened, tools: Tools, tmp_path: Path, change: dict[str, Any]
) -> None:
    cache = Cache(tmp_path, 10**9)
    cache.put("key", opened("lenet-5"))
    cache.store.path("key").write_bytes(msgspec.json.encode(entry_of(cache, "key") | change))
    assert cache.get("key", lambda: fresh(opened("lenet-5").load, tools.data)) is None


def test_the_tensors_of_another_model_are_no_state(opened: Opened, tools: Tools, tmp_path: Path) -> None:
    cache = Cache(tmp_path, 10**9)
    cache.put("key", opened("lenet-5"))
    cache.put("other", opened("lenet-300-100"))
    mixed = entry_of(cache, "key") | {"pieces": entry_of(cache, "other")["pieces"]}
    cache.store.path("key").write_bytes(msgspec.json.encode(mixed))
    assert cache.get("key", lambda: fresh(opened("lenet-5").load, tools.data)) is None


def test_what_came_from_elsewhere_must_have_the_fingerprint_of_its_name(
    opened: Opened, tools: Tools, tmp_path: Path
) -> None:
    cache = Cache(tmp_path, 10**9)
    state = do(opened("lenet-5"), Prune(), Freeze(layers=("conv1",)))
    for key, found in ((f"a-{fingerprint(state)}", True), ("a-unknown", True), (f"a-{'0' * 16}", False)):
        cache.put(key, state)
        assert cache.get(key, lambda: fresh(state.load, tools.data)) is not None
        cache.store.path(key).write_bytes(msgspec.json.encode(entry_of(cache, key) | {"here": False}))
        assert (cache.get(key, lambda: fresh(state.load, tools.data)) is not None) == found


def test_a_folder_that_cannot_be_written_costs_recomputing_and_not_the_run(opened: Opened, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    cache = Cache(tmp_path / "file", 10**9)
    cache.put("key", opened("lenet-5"))
    assert cache.get("key", lambda: pytest.fail("there is nothing to fill")) is None


def test_the_record_names_the_loaded_model(opened: Opened, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save(do(opened("resnet-20", "B"), CUT), path)
    record = read(path)[1]
    assert isinstance(record, Record)
    assert record.load.model == "resnet-20"
    assert record.load.options == {"shortcut": "B"}
    assert (record.shape, len(record.classes)) == ((1, 32, 32), 10)

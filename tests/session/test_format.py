"""The description of the session format names what there is, and a file of the first version means what it meant."""

import re
from pathlib import Path
from typing import get_args

import msgspec

from labbench.session.events import AnyEvent, Closed, Environment
from labbench.session.jsonl import VERSION, Header, Writer, parse, read
from labbench.session.measures import LayerMeasures, LayerScan, Measures, Scanned, Timing
from labbench.session.operations import PLAIN, Cluster, Finetune
from labbench.session.snapshot import Accuracy, LayerRow, Snapshot, Total
from labbench.session.spread import Spread

DESCRIPTION = (Path(__file__).parents[2] / "sessions" / "README.md").read_text(encoding="utf-8")
EVENTS: dict[str, type[msgspec.Struct]] = {kind.__name__.lower(): kind for kind in get_args(AnyEvent)}
PARTS: tuple[type[msgspec.Struct], ...] = (
    *(Environment, Spread, Snapshot, Total, Accuracy, LayerRow),
    *(Measures, LayerMeasures, Scanned, LayerScan, Timing),
)

# fmt: off
FIRST = (
    b'{"labbench":1,"title":"LeNet-5 on digits: prune, freeze, bring back","created":"2026-11-20T13:07:04+'
    b'00:00","environment":{"labbench":"0.1.0","python":"3.11.7","torch":"2.15.0+cu132","torch_pruning":"1'
    b'.6.1","sklearn":"1.9.1","numpy":"2.4.6","machine":"AMD EPYC, AVX512, Linux","threads":2,"device":"cp'
    b'u","devices":["cpu"]}}\n'
    b'[0.0,{"event":"started","operation":{"op":"load","model":"lenet-5","dataset":"digits","options":{},"'
    b'weights":"","sha256":"","seed":0,"device":"auto"}}]\n'
    b'[0.815,{"event":"progress","phase":"measure","fraction":0.7111111111111111,"epoch":0,"epochs":0,"ste'
    b'p":0,"steps":0,"loss":null,"rate":0.0,"eta":null,"note":""}]\n'
    b'[0.841,{"event":"finished","operation":{"op":"load","model":"lenet-5","dataset":"digits","options":{'
    b'},"weights":"","sha256":"","seed":0,"device":"auto"},"snapshot":{"model":"lenet-5","dataset":"digits'
    b'","device":"cpu","classes":["0","1","2","3","4","5","6","7","8","9"],"rows":[{"name":"conv1","kind":'
    b'"conv","shape":[20,1,5,5],"parameters":520,"weights":500,"weights_loaded":500,"nonzero":500,"prunabl'
    b'e":true,"masked":false,"filters_zero":0,"filters_unique":20,"clusters":0,"channels":20,"channels_loa'
    b'ded":20,"inputs":1,"inputs_loaded":1,"frozen":false,"last":"","macs":288000,"norm":2.611292868524276'
    b'2,"histogram":[21,17],"limit":0.19993527233600616},{"name":"fc2","kind":"linear","shape":[10,500],"p'
    b'arameters":5010,"weights":5000,"weights_loaded":5000,"nonzero":5000,"prunable":true,"masked":false,"'
    b'filters_zero":0,"filters_unique":10,"clusters":0,"channels":10,"channels_loaded":10,"inputs":500,"in'
    b'puts_loaded":500,"frozen":false,"last":"","macs":5000,"norm":1.813854880824178,"histogram":[240,205]'
    b',"limit":0.04470564424991608}],"prunable":{"loaded":430500,"now":430500,"nonzero":430500},"whole":{"'
    b'loaded":431080,"now":431080,"nonzero":431080},"unique":430500,"macs":2293000,"macs_loaded":2293000,"'
    b'accuracy":{"validation":{"images":360,"top1":0.10277777777777777,"macro":0.10293650793650792,"worst"'
    b':0.0,"worst_class":"0","loss":2.301725896199544,"confusion":[[0,0,0,0,35,1,0,0,0,0],[0,0,3,0,33,0,0,'
    b'0,0,0],[0,0,2,0,33,0,0,0,0,0],[0,0,1,0,36,0,0,0,0,0],[0,0,1,0,35,0,0,0,0,0],[0,0,0,0,37,0,0,0,0,0],['
    b'0,0,0,0,36,0,0,0,0,0],[0,0,8,0,27,0,0,0,1,0],[0,0,0,0,35,0,0,0,0,0],[0,0,0,0,36,0,0,0,0,0]]}},"finge'
    b'rprint":"3bef85e433bf29dc"},"remarks":[],"seconds":0.84}]\n'
    b'[0.841,{"event":"started","operation":{"op":"note","text":"LeNet-5 has 431,080 parameters, and 93 % '
    b'of them sit in fc1.\\nThe digits are 1,077 real images to train on, 360 to choose by and 360 to be ju'
    b'dged by.\\nWatch the column of zeros: nothing is pruned yet."}}]\n'
    b'[0.844,{"event":"finished","operation":{"op":"note","text":"LeNet-5 has 431,080 parameters, and 93 %'
    b' of them sit in fc1.\\nThe digits are 1,077 real images to train on, 360 to choose by and 360 to be j'
    b'udged by.\\nWatch the column of zeros: nothing is pruned yet."},"snapshot":null,"remarks":[],"seconds'
    b'":0.003}]\n'
    b'[0.844,{"event":"started","operation":{"op":"finetune","epochs":10,"optimizer":"sgd","lr":0.05,"mome'
    b'ntum":0.9,"weight_decay":0.0005,"schedule":"cosine","milestones":[],"gamma":0.1,"batch_size":64,"aug'
    b'ment":true,"tied":true,"keep":"best","device":"","steps":0,"seed":0}}]\n'
    b'[1.406,{"event":"progress","phase":"train","fraction":0.20625,"epoch":3,"epochs":10,"step":33,"steps'
    b'":160,"loss":1.204257845878601,"rate":4282.599624361593,"eta":1.8979126495420737,"note":""}]\n'
    b'[1.123,{"event":"metric","name":"validation/accuracy","x":1.0,"y":0.39444444444444443}]\n'
    b'[1.123,{"event":"sparsity","epoch":1,"nonzero":{"conv1":500,"conv2":25000,"fc1":400000,"fc2":5000},"'
    b'unique":{}}]\n'
    b'[4.177,{"event":"finished","operation":{"op":"finetune","epochs":10,"optimizer":"sgd","lr":0.05,"mom'
    b'entum":0.9,"weight_decay":0.0005,"schedule":"cosine","milestones":[],"gamma":0.1,"batch_size":64,"au'
    b'gment":true,"tied":true,"keep":"best","device":"","steps":0,"seed":0},"snapshot":null,"remarks":["ke'
    b'pt epoch 7 of 10: best on validation"],"seconds":3.332}]\n'
    b'[4.2,{"event":"failed","error":"no layer fits conv9","operation":{"op":"prune","layers":["conv9"],"a'
    b'mount":0.5,"method":"magnitude","scope":"layer","options":{},"seed":0},"bug":false}]\n'
    b'[5.0,{"event":"died","error":"the worker ended with -9"}]\n'
    b'[9.0,{"event":"ready","environment":{"labbench":"0.1.0","python":"3.11.7","torch":"2.15.0+cu132","to'
    b'rch_pruning":"1.6.1","sklearn":"1.9.1","numpy":"2.4.6","machine":"AMD EPYC, AVX512, Linux","threads"'
    b':2,"device":"cpu","devices":["cpu"]},"catalogue":null}]\n'
    b'[9.5,{"event":"restored","snapshot":null,"recomputed":2,"remarks":[]}]\n'
    b'[9.6,{"event":"finished","operation":{"op":"cluster","layers":["conv2"],"k":0,"fraction":0.5,"method'
    b'":"k-means","options":{},"seed":0},"snapshot":null,"remarks":[],"seconds":0.1}]\n'
)
# fmt: on
"""A file of version 1, with one of each event that it had. Down to the end of the finetuning the lines are those of
lenet-5-digits as it was shipped, but for two layers of four and most of their histograms."""


def section(heading: str) -> str:
    """What stands below a heading."""
    return DESCRIPTION.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def described(heading: str) -> dict[str, dict[str, bool]]:
    """The tables below a heading: what the first column names → its fields → whether one must be given."""
    found: dict[str, dict[str, bool]] = {}
    of = ""
    for first, names, default in re.findall(r"^\| (.*?) ?\| (.*?) ?\| (.*?) ?\|", section(heading), flags=re.M):
        of = first.strip("`*") or of
        found.setdefault(of, {}).update(dict.fromkeys(re.findall(r"`(\w+)`", names), not default))
    return found


def fields(kind: type[msgspec.Struct]) -> dict[str, bool]:
    """Those of a struct, and whether one must be given."""
    return {field.encode_name: field.required for field in msgspec.structs.fields(kind)}


def test_the_description_names_every_event_with_its_fields() -> None:
    found = described("Events")
    assert {name: found.get(name) for name in EVENTS} == {name: fields(kind) for name, kind in EVENTS.items()}
    assert found.keys() - {"event", "---"} == EVENTS.keys()


def test_the_description_names_every_field_of_what_events_carry() -> None:
    found = described("What the events carry")
    assert {kind.__name__: found.get(kind.__name__) for kind in PARTS} == {k.__name__: fields(k) for k in PARTS}


def test_the_description_names_every_field_of_the_header_and_every_version() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.*?) ?\|", section("Header"), flags=re.MULTILINE)
    assert {name: not default for name, default in rows} == fields(Header)
    versions = re.findall(r"^\| (\d+) \|", section("Versions"), flags=re.MULTILINE)
    assert versions == [str(number) for number in range(1, VERSION + 1)]
    assert f"# The session format, version {VERSION}\n" in DESCRIPTION


def test_a_file_of_the_first_version_means_what_it_meant(tmp_path: Path) -> None:
    header, session, notice = parse(tmp_path / "old.jsonl", FIRST)
    assert (header.labbench, header.title, notice) == (1, "LeNet-5 on digits: prune, freeze, bring back", "")
    kinds = {type(event).__name__.lower() for _, event in session.events}
    assert kinds == EVENTS.keys() - {"probed", "closed", "previewed", "grouped", "exported"}  # not then, or never
    assert session.snapshot and session.snapshot.macs == 2_293_000
    row = session.snapshot.row("conv1")
    assert row and (row.inputs_zero, row.weights_unique) == (None, None)  # not counted then
    assert session.snapshot.accuracy["validation"].top5 is None
    _, _, tuned, shared = (step.operation for step in session.steps)
    assert isinstance(tuned, Finetune) and {name: getattr(tuned, name) for name in PLAIN} == PLAIN
    assert isinstance(shared, Cluster) and shared.options == {"solver": "scikit-learn"}
    assert session.curves["validation/accuracy"].points == [(1.0, 0.39444444444444443)]


def test_a_file_of_the_first_version_goes_on_in_this_one(tmp_path: Path) -> None:
    file = tmp_path / "old.jsonl"
    file.write_bytes(FIRST)
    before = parse(file, FIRST)[1].events
    with Writer(file, None) as writer:
        writer.write(10.0, Closed())
    header, session, _ = read(file)
    assert (header.labbench, session.events) == (VERSION, [*before, (10.0, Closed())])

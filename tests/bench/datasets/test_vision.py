"""The downloaded data sets: small files in the published formats, and what is said where there are none."""

import gzip
import hashlib
import io
import struct
import tarfile
from dataclasses import replace
from http.client import IncompleteRead
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from msgspec import structs

from labbench import published
from labbench.bench.data import cache, unpacked
from labbench.bench.data.dataset import Images, Reading, Splits
from labbench.bench.datasets import DATASETS
from labbench.bench.errors import BenchError, Stopped
from labbench.published import Packed, Published
from labbench.session.events import Progress

DOWNLOADED = [name for name, dataset in DATASETS.items() if dataset.download]
TRAIN, TEST = 60, 12
IDX = ("mnist", "fashion-mnist")
CIFAR = {
    "cifar10": ([f"data_batch_{n}" for n in range(1, 6)], "test_batch", "batches.meta"),
    "cifar100": (["train"], "test", "meta"),
}
"""Files to train with, to test with, and of the names of the classes."""


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """No test of this file reaches the network, whether or not there is one."""
    _answer(monkeypatch, URLError("no route to host"))


def _answer(monkeypatch, what: Exception | dict[str, bytes]) -> None:
    """Every request fails so, or is answered from these files by the last part of its address."""

    def urlopen(request, timeout):
        if isinstance(what, Exception):
            raise what
        answer = io.BytesIO(what[request.full_url.rsplit("/", 1)[1]])
        answer.url, answer.length = request.full_url, len(answer.getbuffer())
        return answer

    monkeypatch.setattr("urllib.request.urlopen", urlopen)


def published_of(name: str) -> Published:
    return DATASETS[name].read.__self__.published


def classes_of(name: str) -> tuple[str, ...]:
    return DATASETS[name].read.__self__.classes


def _pictures(name: str, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    random, dataset = np.random.RandomState(seed), DATASETS[name]
    images = random.randint(0, 256, (count, *dataset.shape), dtype=np.uint8)
    return images, random.randint(0, dataset.classes, count)


def _idx_files(name: str) -> dict[str, bytes]:
    """The format of http://yann.lecun.com/exdb/mnist: a magic number, the sizes (big-endian), the bytes."""
    files = {}
    for part, count, seed in (("train", TRAIN, 1), ("t10k", TEST, 2)):
        images, labels = _pictures(name, count, seed)
        files[f"{part}-images-idx3-ubyte"] = struct.pack(">4i", 0x803, count, 28, 28) + images.tobytes()
        files[f"{part}-labels-idx1-ubyte"] = struct.pack(">2i", 0x801, count) + labels.astype(np.uint8).tobytes()
    return files


def _cifar_files(name: str) -> dict[str, bytes]:
    """The format of https://www.cs.toronto.edu/~kriz/cifar.html: pickles by Python 2, rows of 3,072 bytes."""
    batches, test, meta = CIFAR[name]
    key, names = ("labels", "label_names") if name == "cifar10" else ("fine_labels", "fine_label_names")
    files = {meta: _python2_pickle({names: list(classes_of(name))})}
    images, labels = _pictures(name, TRAIN, 1)
    each = TRAIN // len(batches)
    for turn, batch in enumerate(batches):
        part = slice(turn * each, (turn + 1) * each)
        files[batch] = _python2_pickle({"data": images[part].reshape(each, -1), key: labels[part].tolist()})
    images, labels = _pictures(name, TEST, 2)
    files[test] = _python2_pickle({"data": images.reshape(TEST, -1), key: labels.tolist()})
    return files


def _python2_pickle(value) -> bytes:
    """Protocol 2 as Python 2 and NumPy 1.3 wrote it: strings of bytes, and a dtype that aligns by 0, not False."""
    return b"\x80\x02" + _opcodes(value) + b"."


def _opcodes(value) -> bytes:
    match value:
        case None:
            return b"N"
        case bool():
            return b"\x88" if value else b"\x89"
        case int():
            return b"J" + struct.pack("<i", value)
        case str():
            return _opcodes(value.encode())
        case bytes():
            return b"T" + struct.pack("<i", len(value)) + value
        case tuple():
            return b"(" + b"".join(map(_opcodes, value)) + b"t"
        case list():
            return b"](" + b"".join(map(_opcodes, value)) + b"e"
        case dict():
            return b"}(" + b"".join(_opcodes(key) + _opcodes(item) for key, item in value.items()) + b"u"
        case np.ndarray():
            dtype = b"cnumpy\ndtype\n" + _opcodes(("u1", 0, 1)) + b"R"
            dtype += _opcodes((3, "|", None, None, None, -1, -1, 0)) + b"b"
            empty = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n" + _opcodes((0,)) + _opcodes("b") + b"tR"
            return (
                empty + b"(" + _opcodes(1) + _opcodes(value.shape) + dtype + b"\x89" + _opcodes(value.tobytes()) + b"tb"
            )
    raise TypeError(type(value))


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _published(monkeypatch, name: str) -> tuple[str, dict[str, bytes], dict[str, bytes]]:
    """The folder of a data set, its files, and the packed files that a download brings; the data set takes their
    checksums for the published ones, so that its own checks run."""
    vision = DATASETS[name].read.__self__
    folder = vision.published.folder
    if name in IDX:
        files = _idx_files(name)
        packed = {f"{file}.gz": gzip.compress(content) for file, content in files.items()}
        md5 = ()
    else:
        files = _cifar_files(name)
        packed = {vision.published.packed[0].name: _tar(folder, files)}
        md5 = tuple(_md5(files[file]) for file in vision.published.files)
    told = tuple(Packed(file, len(content), _sha256(content)) for file, content in packed.items())
    vision = replace(vision, published=structs.replace(vision.published, packed=told, md5=md5, system=()))
    monkeypatch.setitem(DATASETS, name, replace(DATASETS[name], read=vision.read, sources=vision.sources))
    return folder, files, packed


def _tar(folder: str, files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for file, content in files.items():
            entry = tarfile.TarInfo(f"{folder}/{file}")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def _write(folder: Path, files: dict[str, bytes]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for file, content in files.items():
        (folder / file).write_bytes(content)


def _pairs(images, labels) -> list[tuple[bytes, int]]:
    return sorted((np.asarray(image).tobytes(), int(label)) for image, label in zip(images, labels, strict=True))


def _check_whole(name: str, splits: Splits) -> None:
    """Nothing is lost, doubled or mislabeled."""
    held = TRAIN // (6 if name in IDX else 10)
    sizes = {"train": TRAIN - held, "validation": held, "test": TEST}
    assert {split: len(labels) for split, (_, labels) in splits.items()} == sizes
    for images, labels in splits.values():
        assert images.dtype == torch.uint8
        assert tuple(images.shape[1:]) == DATASETS[name].shape
        assert images.is_contiguous()
        assert labels.dtype == torch.int64
    (train, train_labels), (validation, validation_labels), test = splits.values()
    ours = _pairs(torch.cat([train, validation]), torch.cat([train_labels, validation_labels]))
    assert ours == _pairs(*_pictures(name, TRAIN, 1))
    assert [np.array_equal(mine, theirs) for mine, theirs in zip(test, _pictures(name, TEST, 2), strict=True)] == [
        True,
        True,
    ]


@pytest.mark.parametrize("name", DOWNLOADED)
def test_files_in_the_folder_are_read_without_network(name, tmp_path, monkeypatch, capsys):
    folder, files, _ = _published(monkeypatch, name)
    _write(tmp_path / folder, files)
    _check_whole(name, DATASETS[name].read(Reading(tmp_path)).splits)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", DOWNLOADED)
def test_packed_files_in_the_folder_are_unpacked_without_network(name, tmp_path, monkeypatch):
    folder, _, packed = _published(monkeypatch, name)
    _write(tmp_path / folder if name in IDX else tmp_path, packed)
    _check_whole(name, DATASETS[name].read(Reading(tmp_path)).splits)


@pytest.mark.parametrize("name", DOWNLOADED)
def test_absent_files_are_downloaded_once_and_nothing_is_printed_to_stdout(name, tmp_path, monkeypatch, capsys):
    _, _, packed = _published(monkeypatch, name)
    _answer(monkeypatch, packed)
    _check_whole(name, DATASETS[name].read(Reading(tmp_path / "made" / "on demand")).splits)
    assert capsys.readouterr().out == ""
    _answer(monkeypatch, URLError("gone again"))
    _check_whole(name, DATASETS[name].read(Reading(tmp_path / "made" / "on demand")).splits)


@pytest.mark.parametrize("name", DOWNLOADED)
def test_the_split_is_the_same_each_time(name, tmp_path, monkeypatch):
    folder, files, _ = _published(monkeypatch, name)
    _write(tmp_path / folder, files)
    first, second = (DATASETS[name].read(Reading(tmp_path)).splits for _ in range(2))
    for split in first:
        assert torch.equal(first[split][0], second[split][0])
        assert torch.equal(first[split][1], second[split][1])


@pytest.mark.parametrize(
    "failure",
    [URLError("no route to host"), ConnectionResetError("reset"), TimeoutError("timed out"), IncompleteRead(b"")],
    ids=lambda failure: type(failure).__name__,
)
@pytest.mark.parametrize("name", DOWNLOADED)
def test_offline_and_absent_names_the_folder_the_files_and_what_works_offline(name, failure, tmp_path, monkeypatch):
    folder, files, _ = _published(monkeypatch, name)
    _answer(monkeypatch, failure)
    with pytest.raises(BenchError) as refused:
        DATASETS[name].read(Reading(tmp_path))
    sentence = str(refused.value)
    assert sentence.startswith(f"{name} is not in {tmp_path / folder} and could not be downloaded (")
    assert all(file in sentence for file in files)
    assert sentence.endswith("or load digits or shapes, which need no network")
    assert "\n" not in sentence


@pytest.mark.parametrize("name", DOWNLOADED)
def test_of_a_partial_folder_only_what_is_missing_is_named(name, tmp_path, monkeypatch):
    folder, files, _ = _published(monkeypatch, name)
    there, *missing = files
    _write(tmp_path / folder, {there: files[there]})
    with pytest.raises(BenchError) as refused:
        DATASETS[name].read(Reading(tmp_path))
    named = str(refused.value).rsplit("; put ", 1)[1].split(" there", 1)[0].split(", ")
    assert sorted(named) == sorted(missing)


@pytest.mark.parametrize("length", [0, 3, 9, 500])
@pytest.mark.parametrize("name", DOWNLOADED)
def test_a_file_cut_short_is_told_from_an_absent_one(name, length, tmp_path, monkeypatch):
    folder, files, _ = _published(monkeypatch, name)
    for broken in files:
        _write(tmp_path / folder, files)
        if length >= len(files[broken]) or broken in ("batches.meta", "meta"):
            continue
        _write(tmp_path / folder, {broken: files[broken][:length]})
        with pytest.raises(BenchError, match=rf"is incomplete or broken: .+{broken} \(.+\); .+; put whole files there"):
            DATASETS[name].read(Reading(tmp_path))


@pytest.mark.parametrize("name", DOWNLOADED)
def test_what_is_broken_is_downloaded_again_where_there_is_a_network(name, tmp_path, monkeypatch):
    folder, files, packed = _published(monkeypatch, name)
    _write(tmp_path / folder, {file: content[:9] for file, content in files.items()})
    _answer(monkeypatch, packed)
    _check_whole(name, DATASETS[name].read(Reading(tmp_path)).splits)


@pytest.mark.parametrize("name", CIFAR)
def test_a_pickle_that_was_not_published_is_never_opened(name, tmp_path, monkeypatch):
    folder, files, _ = _published(monkeypatch, name)
    touched = tmp_path / "touched"
    wicked = b"cpathlib\nPosixPath\n(V" + str(touched).encode() + b"\ntRcpathlib\nPath.touch\n."
    _write(tmp_path / folder, files | {CIFAR[name][0][0]: wicked})
    with pytest.raises(BenchError):
        DATASETS[name].read(Reading(tmp_path))
    assert not touched.exists()


@pytest.mark.parametrize("name", IDX)
def test_as_many_labels_as_images_are_asked_for(name, tmp_path, monkeypatch):
    folder, files, _ = _published(monkeypatch, name)
    _write(tmp_path / folder, files | {"train-labels-idx1-ubyte": files["t10k-labels-idx1-ubyte"]})
    with pytest.raises(BenchError, match=f"{TRAIN} images but {TEST} labels"):
        DATASETS[name].read(Reading(tmp_path))


def test_labels_of_more_classes_than_there_are_are_refused(tmp_path, monkeypatch):
    folder, files, _ = _published(monkeypatch, "mnist")
    labels = files["train-labels-idx1-ubyte"]
    _write(tmp_path / folder, files | {"train-labels-idx1-ubyte": labels[:-1] + b"\x19"})
    with pytest.raises(BenchError, match="labels from 0 to 25 for 10 classes"):
        DATASETS["mnist"].read(Reading(tmp_path))


@pytest.mark.parametrize("name", CIFAR)
def test_the_classes_are_in_the_order_of_the_published_labels(name):
    """Both lists are alphabetical in the published meta files."""
    assert list(classes_of(name)) == sorted(classes_of(name))


@pytest.mark.parametrize("name", DOWNLOADED)
def test_the_published_files_give_the_promised_splits(name):
    """60,000 or 50,000 training images, of which one in six or ten validates."""
    images = DATASETS[name].images
    published = 60_000 if name in IDX else 50_000
    assert images["train"] + images["validation"] == published
    assert images["validation"] == published // (6 if name in IDX else 10)


def _listening(folder: Path, stop_after: int = 10**9) -> tuple[Reading, list[Progress]]:
    told: list[Progress] = []
    return Reading(folder, told.append, lambda: len(told) >= stop_after), told


@pytest.mark.parametrize("name", DOWNLOADED)
def test_how_far_a_download_is_is_told_in_bytes_of_the_whole(name, tmp_path, monkeypatch):
    _, _, packed = _published(monkeypatch, name)
    _answer(monkeypatch, packed)
    reading, told = _listening(tmp_path)
    size = sum(map(len, packed.values()))
    DATASETS[name].read(reading)
    fractions = [event.fraction for event in told if event.phase == "download"]
    assert fractions[0] == 0
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1
    assert told[0].note == f"{name} 0.0 of {size / 1e6:.1f} MB"
    assert told[-1].phase == "convert"


@pytest.mark.parametrize("name", DOWNLOADED)
def test_a_stop_leaves_only_whole_files_and_the_next_reading_goes_on(name, tmp_path, monkeypatch):
    _, _, packed = _published(monkeypatch, name)
    _answer(monkeypatch, packed)
    reading, _ = _listening(tmp_path, stop_after=2)
    with pytest.raises(Stopped):
        DATASETS[name].read(reading)
    left = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path.read_bytes() for path in left] == [packed[path.name] for path in left]
    _check_whole(name, DATASETS[name].read(Reading(tmp_path)).splits)


@pytest.mark.parametrize("name", IDX)
def test_only_the_packed_files_that_are_missing_or_broken_are_fetched(name, tmp_path, monkeypatch):
    folder, _, packed = _published(monkeypatch, name)
    first, second, *rest = packed
    _write(tmp_path / folder, {file: packed[file] for file in rest} | {second: packed[second][:30]})
    _answer(monkeypatch, {file: packed[file] for file in (first, second)})
    _check_whole(name, DATASETS[name].read(Reading(tmp_path)).splits)


@pytest.mark.parametrize("name", DOWNLOADED)
def test_the_cache_takes_the_place_of_the_files_until_a_file_changes(name, tmp_path, monkeypatch):
    folder, _, packed = _published(monkeypatch, name)
    _answer(monkeypatch, packed)
    reading, dataset = Reading(tmp_path), DATASETS[name]

    def read() -> Images:
        return cache.read(name, dataset, reading, {}, cache.fingerprint(dataset, reading, {}))

    fresh = read().splits
    assert [path.name for path in (tmp_path / cache.FOLDER).iterdir()] == [f"{name}.safetensors"]
    with monkeypatch.context() as without:
        without.delattr(unpacked, "idx")
        without.delattr(unpacked, "pickles")
        cached = read().splits
    assert all(torch.equal(*pair) for split in fresh for pair in zip(fresh[split], cached[split], strict=True))
    (tmp_path / folder).mkdir(exist_ok=True)
    (tmp_path / folder / dataset.read.__self__.published.files[0]).write_bytes(b"")
    _answer(monkeypatch, URLError("gone again"))
    _check_whole(name, read().splits)  # from the packed file that is still there


@pytest.mark.parametrize("pack", [gzip.compress, lambda content: gzip.compress(content, 1), None])
@pytest.mark.parametrize("where", ["MNIST/raw", "MNIST", "mnist", "Mnist/raw"])
def test_mnist_is_found_packed_by_anybody_or_not_and_it_is_said_where(pack, where, tmp_path, monkeypatch):
    _, files, _ = _published(monkeypatch, "mnist")
    _write(tmp_path / where, {f"{file}.gz": pack(content) for file, content in files.items()} if pack else files)
    images = DATASETS["mnist"].read(Reading(tmp_path))
    _check_whole("mnist", images.splits)
    assert images.remarks == (() if where == "MNIST/raw" else (f"read from {tmp_path / where}",))
    assert published_of("mnist").complete(tmp_path)


@pytest.mark.parametrize("where", ["fashion-mnist", "fashion_mnist", "FashionMNIST", "fashion-mnist/data/fashion"])
def test_fashion_mnist_is_found_where_its_authors_and_others_put_it(where, tmp_path, monkeypatch):
    _, _, packed = _published(monkeypatch, "fashion-mnist")
    _write(tmp_path / where, packed)
    _check_whole("fashion-mnist", DATASETS["fashion-mnist"].read(Reading(tmp_path)).splits)


def test_files_with_a_dot_for_a_dash_are_found(tmp_path, monkeypatch):
    _, files, _ = _published(monkeypatch, "mnist")
    _write(tmp_path / "mnist", {file.replace("-idx", ".idx"): content for file, content in files.items()})
    _check_whole("mnist", DATASETS["mnist"].read(Reading(tmp_path)).splits)


def test_files_of_the_same_names_in_the_data_folder_itself_are_told_apart_by_size(tmp_path, monkeypatch):
    _, _, packed = _published(monkeypatch, "fashion-mnist")
    larger = tuple(structs.replace(one, size=one.size + 1_000) for one in published_of("mnist").packed)
    mnist = DATASETS["mnist"].read.__self__.published
    assert not structs.replace(mnist, packed=larger).complete(tmp_path)
    _write(tmp_path, packed)
    assert not structs.replace(mnist, packed=larger).complete(tmp_path)
    _check_whole("fashion-mnist", DATASETS["fashion-mnist"].read(Reading(tmp_path)).splits)


def test_what_a_package_of_the_system_has_is_found(tmp_path, monkeypatch):
    _, _, packed = _published(monkeypatch, "fashion-mnist")
    vision = DATASETS["fashion-mnist"].read.__self__
    _write(tmp_path / "usr", packed)
    vision = replace(vision, published=structs.replace(vision.published, system=(tmp_path / "usr",)))
    images = vision.read(Reading(tmp_path / "data"))
    assert images.remarks == (f"read from {tmp_path / 'usr'}",)
    assert published.FASHION_MNIST.system == (Path("/usr/share/datasets/fashion-mnist"),)


@pytest.mark.parametrize("form", ["unpacked", "tar.gz", "tar"])
@pytest.mark.parametrize("name", CIFAR)
def test_cifar_is_found_in_a_folder_of_its_name(name, form, tmp_path, monkeypatch):
    folder, files, packed = _published(monkeypatch, name)
    (archive, content), top = *packed.items(), tmp_path / name.upper()
    match form:
        case "unpacked":
            _write(top / folder, files)
        case "tar.gz":
            _write(top, {archive: content})
        case _:
            _write(top, {archive.removesuffix(".gz"): gzip.decompress(content)})
    _check_whole(name, DATASETS[name].read(Reading(tmp_path)).splits)


def test_a_stop_is_heard_while_a_file_is_unpacked(tmp_path, monkeypatch):
    _, _, packed = _published(monkeypatch, "mnist")
    _write(tmp_path / "mnist", packed)
    with pytest.raises(Stopped):
        DATASETS["mnist"].read(Reading(tmp_path, stopped=lambda: True))

"""What is taken out of published files: data, as much as was published, and nothing that runs."""

import gzip
import hashlib
import pickle

import pytest

from labbench.bench.data import unpacked


@pytest.mark.parametrize(
    "wicked", [b"cos\nsystem\n(Vfalse\ntR.", b"cnumpy\nload\n(Vx\ntR.", b"cbuiltins\neval\n(V1\ntR."]
)
def test_of_a_pickle_with_the_right_checksum_only_data_is_taken(wicked, tmp_path):
    (tmp_path / "train").write_bytes(wicked)
    with pytest.raises(pickle.UnpicklingError, match="which is no data"):
        unpacked.pickles(tmp_path / "train", {"train": hashlib.md5(wicked).hexdigest()}, lambda: False)


def test_a_file_that_unpacks_to_more_than_was_ever_published_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(unpacked, "MOST", 10_000)
    (tmp_path / "x.gz").write_bytes(gzip.compress(bytes(100_000)))
    with pytest.raises(ValueError, match="more than 10,000 bytes come out of it"):
        unpacked.idx(tmp_path / "x.gz", lambda: False)


@pytest.mark.parametrize(
    "content", [b"", b"\0\0\x08", b"\0\0\x09\1\0\0\0\0", b"\0\0\x08\2\0\0\0\1\0\0\0\1x", b"\0\0\x08\1\xff\xff\xff\xff"]
)
def test_what_is_no_idx_of_images_or_labels_is_refused(content, tmp_path):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(ValueError, match=r"^x (is no|has)"):
        unpacked.idx(tmp_path / "x", lambda: False)

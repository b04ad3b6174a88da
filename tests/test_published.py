"""What is known of the published files: enough to fetch them safely."""

import pytest
from torchvision import datasets

from labbench import published
from labbench.published import PUBLISHED, Published


@pytest.mark.parametrize("one", PUBLISHED.values(), ids=lambda one: one.name)
def test_every_download_has_a_size_a_sha256_and_is_encrypted(one: Published):
    assert all(server.startswith("https://") for server in one.servers)
    assert all(len(file.sha256) == 64 and file.size > 4_000 for file in one.packed)
    assert len(one.md5) in (0, len(one.files))
    assert [len(one.packed)] == ([1] if one.archived else [len(one.files)])


def test_published_md5s_agree_with_torchvisions():
    """The pickles of CIFAR are known by MD5 only; torchvision names the same."""
    for one, theirs in ((published.CIFAR10, datasets.CIFAR10), (published.CIFAR100, datasets.CIFAR100)):
        known = dict([*theirs.train_list, *theirs.test_list])
        known[theirs.meta["filename"]] = theirs.meta["md5"]
        assert dict(zip(one.files, one.md5, strict=True)) == known

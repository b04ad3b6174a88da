"""The data sets that are downloaded: what their files are called, which bytes were published, and where those lie that
are there already. No torch: the screens ask this, too."""

from collections.abc import Iterator
from os.path import isdir, isfile  # those of Path raise where a folder may not be looked into
from pathlib import Path

from msgspec import Struct

GZIP_NAME = 32  # bytes that a file may differ by when it is packed again: the head may hold its name and time


class Packed(Struct, frozen=True):
    """A file as it is downloaded."""

    name: str
    size: int
    """Bytes."""
    sha256: str


class Published(Struct, frozen=True, kw_only=True):
    """One of the data sets. Of MNIST and its like each file is packed alone (.gz), of CIFAR all are in one archive."""

    name: str
    folder: str
    """Under the data folder, where the unpacked files lie as torchvision puts them."""
    files: tuple[str, ...]
    packed: tuple[Packed, ...]
    servers: tuple[str, ...]
    """To be followed by the name of a packed file."""
    md5: tuple[str, ...] = ()
    """Of the unpacked files, where they are pickles: no other is read."""
    system: tuple[Path, ...] = ()
    """Folders where a package of the system puts them."""

    @property
    def archived(self) -> bool:
        """Whether all files are in one archive."""
        return len(self.packed) == 1

    def target(self, data_dir: Path) -> Path:
        """The folder that a download goes into."""
        return data_dir if self.archived else data_dir / self.folder

    def found(self, data_dir: Path) -> dict[str, Path]:
        """Where the files lie, by name; those that are not there are left out.

        Looked for as they are and packed: in the folder that torchvision would use, in one that is called like the data
        set (any case, with or without - and _), and where the system's package puts them.
        """
        return self._archive(data_dir) if self.archived else self._single(data_dir)

    def complete(self, data_dir: Path) -> bool:
        """Whether all files are there, so that nothing has to be downloaded."""
        return len(self.found(data_dir)) == len(self.files)

    def _archive(self, data_dir: Path) -> dict[str, Path]:
        for top in (data_dir, *self._called(data_dir)):
            for folder in (top / self.folder, top):
                if len(there := self._in(folder)) == len(self.files):
                    return there
            archive = top / self.packed[0].name
            for path in (archive, archive.with_suffix("")):  # .tar.gz, .tar
                if isfile(path):
                    return dict.fromkeys(self.files, path)
        return self._in(data_dir / self.folder)

    def _in(self, folder: Path) -> dict[str, Path]:
        return {file: folder / file for file in self.files if isfile(folder / file)}

    def _single(self, data_dir: Path) -> dict[str, Path]:
        tops = (*self._called(data_dir), *self.system)
        folders = [data_dir / self.folder, *(top / inner for top in tops for inner in ("raw", "", "data/fashion"))]
        there: dict[str, Path] = {}
        for file, packed in zip(self.files, self.packed, strict=True):
            names = (file, file.replace("-idx", ".idx"), packed.name)
            paths = [folder / name for folder in folders for name in names]
            # Files of MNIST and Fashion-MNIST are called alike: in the data folder itself their sizes tell them apart.
            loose = data_dir / packed.name
            if isfile(loose) and abs(loose.stat().st_size - packed.size) <= GZIP_NAME:
                paths.append(loose)
            if path := next((path for path in paths if isfile(path)), None):
                there[file] = path
        return there

    def _called(self, data_dir: Path) -> Iterator[Path]:
        """The subfolders that are called like the data set."""
        try:
            entries = sorted(data_dir.iterdir())
        except OSError:
            return
        yield from (entry for entry in entries if _letters(entry.name) == _letters(self.name) and isdir(entry))


def _letters(name: str) -> str:
    return "".join(filter(str.isalnum, name.lower()))


IDX_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")

MNIST = Published(
    name="mnist",
    folder="MNIST/raw",
    files=IDX_FILES,
    packed=(
        Packed(f"{IDX_FILES[0]}.gz", 9_912_422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
        Packed(f"{IDX_FILES[1]}.gz", 28_881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
        Packed(f"{IDX_FILES[2]}.gz", 1_648_877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
        Packed(f"{IDX_FILES[3]}.gz", 4_542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
    ),
    servers=("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/"),
)

FASHION_MNIST = Published(
    name="fashion-mnist",
    folder="FashionMNIST/raw",
    files=IDX_FILES,
    packed=(
        Packed(f"{IDX_FILES[0]}.gz", 26_421_880, "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"),
        Packed(f"{IDX_FILES[1]}.gz", 29_515, "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
        Packed(f"{IDX_FILES[2]}.gz", 4_422_102, "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
        Packed(f"{IDX_FILES[3]}.gz", 5_148, "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
    ),
    servers=(
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        "https://fashion-mnist.s3.eu-central-1.amazonaws.com/",
    ),
    system=(Path("/usr/share/datasets/fashion-mnist"),),
)

CIFAR10 = Published(
    name="cifar10",
    folder="cifar-10-batches-py",
    files=(*(f"data_batch_{turn}" for turn in range(1, 6)), "test_batch", "batches.meta"),
    md5=(
        "c99cafc152244af753f735de768cd75f",
        "d4bba439e000b95fd0a9bffe97cbabec",
        "54ebc095f3ab1f0389bbae665268c751",
        "634d18415352ddfa80567beed471001a",
        "482c414d41f54cd18b22e5b47cb7c3cb",
        "40351d587109b95175f43aff81a1287e",
        "5ff9c542aee3614f3951f8cda6e48888",
    ),
    packed=(
        Packed(
            "cifar-10-python.tar.gz", 170_498_071, "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"
        ),
    ),
    servers=("https://www.cs.toronto.edu/~kriz/",),
)

CIFAR100 = Published(
    name="cifar100",
    folder="cifar-100-python",
    files=("train", "test", "meta"),
    md5=("16019d7e3df5f24257cddd939b257f8d", "f0ef6b0ae62326f3e7ffdfab6717acfc", "7973b15100ade9c7d40fb424638fde48"),
    packed=(
        Packed(
            "cifar-100-python.tar.gz", 169_001_437, "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7"
        ),
    ),
    servers=("https://www.cs.toronto.edu/~kriz/",),
)

PUBLISHED = {one.name: one for one in (MNIST, FASHION_MNIST, CIFAR10, CIFAR100)}

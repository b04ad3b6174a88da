"""Acoustic scene classification: TAU Urban Acoustic Scenes 2022 Mobile, from its folder as it was published."""

import csv
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, TypeAlias

import numpy as np
import torch
from msgspec import Meta

from labbench.bench.data import spectrogram
from labbench.bench.data.dataset import Dataset, Images, Reading, Splits
from labbench.bench.errors import BenchError, Stopped
from labbench.bench.threads import one_thread
from labbench.session.check import listed
from labbench.session.events import Progress

FOLDER = "TAU-urban-acoustic-scenes-2022-mobile-development"
SOURCE = "zenodo.org/records/6337421"
AUDIO = "audio"
TRAIN, TEST = "evaluation_setup/fold1_train.csv", "evaluation_setup/fold1_evaluate.csv"
"""The second is fold1_test.csv with labels; meta.csv says nothing that they and the names of the files do not."""
HEADER = ["filename", "scene_label"]
SCENES = (
    "airport",
    "bus",
    "metro",
    "metro_station",
    "park",
    "public_square",
    "shopping_mall",
    "street_pedestrian",
    "street_traffic",
    "tram",
)
NAME = re.compile(rf"{AUDIO}/(?P<place>(?P<scene>[a-z_]+)-[a-z]+-\d+)-\d+-\d+-[a-z]\d*\.wav")
EXAMPLE = f"{AUDIO}/airport-lisbon-1000-40000-0-a.wav"
HELD_OUT = 10  # one place in so many of each scene validates
BATCH = 32  # clips between two looks at `stopped`: about 50 ms

Place: TypeAlias = Annotated[str, Meta(description=f"the data set's folder; empty: {FOLDER} in the data folder")]
Geometry: TypeAlias = Annotated[
    Literal["128x100", "256x44"], Meta(description="mel bands × frames of a spectrogram, as in CP-JKU's two front ends")
]


class Clip(NamedTuple):
    """A line of a list."""

    name: str
    """Of the file, under the folder."""
    label: int
    place: str
    """Scene, city and location: all that was recorded there, whenever and with whatever device, has the same."""


def sources(reading: Reading, *, path: Place = "", front_end: Geometry = "128x100") -> tuple[Path, ...]:
    """What is read: the folder of sounds and the two lists. A changed one means that the clips may have changed."""
    folder = Path(path).expanduser() if path else reading.data_dir / FOLDER
    return folder / AUDIO, folder / TRAIN, folder / TEST


def read(reading: Reading, *, path: Place = "", front_end: Geometry = "128x100") -> Images:
    """The clips of fold 1 as spectrograms, float16 N×1×mels×frames. Memory is that of the result and one batch."""
    spectrogram.check_libraries("asc")
    audio, *lists = sources(reading, path=path)
    if not audio.is_dir():
        raise BenchError(
            f"asc: there is no folder {audio}; unpack {FOLDER} ({SOURCE}) into {reading.data_dir}, "
            f"or name its folder with the option path"
        )
    train, test = (_clips(file) for file in lists)
    _check_files(audio, dict(zip(lists, (train, test), strict=True)))
    kept, held = _parted(train, lists[0])
    parts = {"train": kept, "validation": held, "test": test}
    with one_thread():
        return Images(_converted(reading, audio.parent, parts, spectrogram.FRONT_ENDS[front_end]), SCENES)


def _clips(file: Path) -> list[Clip]:
    """What a list says, checked line by line."""
    found: dict[str, Clip] = {}
    expected = f"expected {EXAMPLE}, a tab and one of {listed(SCENES)}"
    try:
        if file.exists() and not file.is_file():
            raise OSError(None, "it is no file")
        with file.open(encoding="utf-8", newline="") as opened:
            lines = csv.reader(opened, delimiter="\t", quoting=csv.QUOTE_NONE)
            header = next(lines, [])
            if header[:2] != HEADER:
                raise BenchError(f"{file}, line 1: {_shown(header)}; expected filename, a tab and scene_label")
            for line in lines:
                where = f"{file}, line {lines.line_num}"
                if not line:
                    continue
                name = NAME.fullmatch(line[0])
                if len(line) < 2 or name is None or line[1] not in SCENES:
                    raise BenchError(f"{where}: {_shown(line)}; {expected}")
                if name["scene"] != line[1]:
                    raise BenchError(
                        f"{where}: {line[0]} is labelled {line[1]}; expected {name['scene']}, as it is named"
                    )
                if line[0] in found:
                    raise BenchError(f"{where}: {line[0]} is there twice; expected each file once")
                found[line[0]] = Clip(line[0], SCENES.index(line[1]), name["place"])
    except OSError as error:
        raise BenchError(f"asc: {file} cannot be read ({error.strerror}); unpack it from {SOURCE}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise BenchError(f"{file} is no list of files ({error}); unpack it again from {SOURCE}") from error
    if not found:
        raise BenchError(f"{file} names no file; unpack it again from {SOURCE}")
    return list(found.values())


def _shown(line: list[str]) -> str:
    text = " ⇥ ".join(line)
    return repr(text if len(text) <= 80 else text[:79] + "…")


def _check_files(audio: Path, lists: Mapping[Path, Sequence[Clip]]) -> None:
    """Raise `BenchError` where a listed file is not there, or one is in both lists."""
    there = {f"{AUDIO}/{file.name}" for file in audio.iterdir()}
    seen: set[str] = set()
    for file, clips in lists.items():
        missing = [clip.name for clip in clips if clip.name not in there]
        if missing:
            more = f" and {len(missing) - 1:,} more" if len(missing) > 1 else ""
            raise BenchError(
                f"{audio.parent / missing[0]}{more} of {file.name} {'are' if more else 'is'} missing; "
                f"unpack every audio archive of {SOURCE}"
            )
        twice = next((clip.name for clip in clips if clip.name in seen), None)
        if twice:
            raise BenchError(f"{file}: {twice} is in {Path(TRAIN).name} too; expected to test on other files")
        seen |= {clip.name for clip in clips}


def _parted(clips: Sequence[Clip], file: Path) -> tuple[list[Clip], list[Clip]]:
    """The clips that train and those that validate: of each scene a tenth of the places, at least one.

    All slices, segments and devices of a place stay together, as in the published partition into training and test.
    """
    # NumPy keeps the stream of RandomState frozen, so this split is the same with every version.
    random = np.random.RandomState(1)
    held: set[str] = set()
    for label, scene in enumerate(SCENES):
        places = sorted({clip.place for clip in clips if clip.label == label})
        if len(places) < 2:
            said = f"only {places[0]}" if places else "no place"
            raise BenchError(f"{file}: {said} of {scene}; expected two places or more, of which one validates")
        shuffled = random.permutation(len(places))
        held |= {places[number] for number in shuffled[: max(1, round(len(places) / HELD_OUT))]}
    return [clip for clip in clips if clip.place not in held], [clip for clip in clips if clip.place in held]


def _converted(
    reading: Reading, folder: Path, parts: Mapping[str, Sequence[Clip]], front_end: spectrogram.FrontEnd
) -> Splits:
    total, done = sum(map(len, parts.values())), 0
    splits: Splits = {}
    for split, clips in parts.items():
        images = torch.empty(len(clips), 1, front_end.mels, front_end.frames, dtype=torch.float16)
        for start in range(0, len(clips), BATCH):
            if reading.stopped():
                raise Stopped
            reading.report(Progress(phase="convert", fraction=done / total, note=f"{done:,} of {total:,} clips"))
            batch = torch.stack([spectrogram.clip(folder / clip.name) for clip in clips[start : start + BATCH]])
            images[start : start + BATCH, 0] = spectrogram.log_mel(batch, front_end)
            done += len(batch)
        splits[split] = images, torch.tensor([clip.label for clip in clips])
    return splits


ASC = Dataset(
    doc=f"""Sounds of ten scenes in ten cities, clips of 1 second: 230,350 files

    TAU Urban Acoustic Scenes 2022 Mobile, development (Heittola, Mesaros and Virtanen 2022, {SOURCE}),
    for DCASE 2022 task 1; free for non-commercial use. Needs the extra labbench[audio] and the folder as it is
    unpacked: audio, evaluation_setup. Fold 1: of its 139,620 clips to train, those of a tenth of each scene's places
    validate (all slices of a recording on one side); its 29,680 clips test. Other devices are in the test part than
    in the others, so expect less there. Spectrograms are log-mel at 32 kHz, float16: 4.3 GB or 3.8 GB of memory.
    Augmentation moves them in time, never in frequency; in the end that is free they are 0, about their mean.""",
    read=read,
    flip=False,
    vertical=False,
    sources=sources,
    classes=len(SCENES),
)

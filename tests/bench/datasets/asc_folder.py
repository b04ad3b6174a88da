"""A small folder in the format of TAU Urban Acoustic Scenes 2022 Mobile, with sounds that can be told apart."""

import math
from pathlib import Path

import numpy as np
import soundfile

from labbench.bench.datasets.asc import SCENES, TEST, TRAIN

CITIES = ("barcelona", "helsinki", "lisbon")
DEVICES = ("a", "b", "c", "s1")


def sound(label: int, random: np.random.Generator) -> np.ndarray:
    """One second: harmonics, as wide apart as the scene says, in the second five scenes in beats; noise; any level."""
    time = np.arange(44_100) / 44_100
    spacing = 250 * 1.7 ** (label % 5) * random.uniform(0.97, 1.03)
    harmonics = spacing * np.arange(1, 1 + math.floor(14_000 / spacing))
    tones = np.sin(2 * np.pi * (harmonics[:, None] * time + random.random((len(harmonics), 1)))).sum(0)
    if label >= 5:
        tones *= np.sin(2 * np.pi * (6 * time + random.random())) > 0
    made = tones / np.abs(tones).max() + 0.02 * random.standard_normal(len(time))
    return 0.5 * random.uniform(0.2, 1) * made / np.abs(made).max()


def names(scene: str, places: range, slices: int) -> list[str]:
    """Names of the clips of a scene: of each place one recording in so many slices, each by another device."""
    return [
        f"audio/{scene}-{CITIES[place % 3]}-{place}-{1000 + place}-{part}-{DEVICES[part % 4]}.wav"
        for place in places
        for part in range(slices)
    ]


def write(folder: Path, *, places: int = 3, slices: int = 3, test: int = 2) -> Path:
    """Write so many places of each scene to train and to validate, one to test, and return the folder."""
    random = np.random.default_rng(0)
    (folder / "audio").mkdir(parents=True)
    (folder / "evaluation_setup").mkdir()
    lists: dict[str, list[tuple[str, str]]] = {TRAIN: [], TEST: []}
    for label, scene in enumerate(SCENES):
        first = (places + 1) * label
        for file, here in (
            (TRAIN, names(scene, range(first, first + places), slices)),
            (TEST, names(scene, range(first + places, first + places + 1), test)),
        ):
            lists[file] += [(name, scene) for name in here]
            for name in here:
                soundfile.write(folder / name, sound(label, random), 44_100, subtype="PCM_24")
    for file, lines in lists.items():
        text = "".join(f"{name}\t{scene}\n" for name, scene in lines)
        (folder / file).write_text(f"filename\tscene_label\n{text}", encoding="utf-8")
    return folder

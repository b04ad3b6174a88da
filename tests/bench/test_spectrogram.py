"""The front end of sounds: against a computation by hand and with another resampler; what is no clip is refused."""

import builtins
import math
import os
from pathlib import Path

import numpy as np
import pytest
import scipy.signal
import soundfile
import torch

from labbench.bench.data import spectrogram
from labbench.bench.data.spectrogram import FRONT_ENDS, FrontEnd, check_libraries, clip, log_mel, mel_bank
from labbench.bench.errors import BenchError

SECOND = np.arange(44_100) / 44_100


def noise(count: int, seed: int = 0) -> np.ndarray:
    return 0.2 * np.random.default_rng(seed).standard_normal(count)


def mel(hertz: float) -> float:
    return 1127 * math.log(1 + hertz / 700)


def triangle(front_end: FrontEnd, band: int, bin_: int) -> float:
    """The weight of a frequency in a band, as Kaldi has it: in mel, straight from one corner to the peak and down."""
    step = mel(16_000) / (front_end.mels + 1)
    left, peak, right = (step * (band + corner) for corner in range(3))
    here = mel(bin_ * 32_000 / front_end.fft)
    return max(0.0, min((here - left) / (peak - left), (right - here) / (right - peak)))


def by_hand(samples: np.ndarray, front_end: FrontEnd, frame: int, bank: np.ndarray) -> np.ndarray:
    """One column of the spectrogram of a clip at 32 kHz, in float64."""
    sharpened = np.array([samples[t + 1] - 0.97 * samples[t] for t in range(len(samples) - 1)])
    middle = frame * front_end.hop
    last = len(sharpened) - 1
    places = [abs(t) for t in range(middle - front_end.fft // 2, middle + front_end.fft // 2)]
    places = [t if t <= last else 2 * last - t for t in places]
    window = np.zeros(front_end.fft)
    before = (front_end.fft - front_end.window) // 2
    turn = 2 * np.pi * np.arange(front_end.window) / (front_end.window - 1)
    window[before : before + front_end.window] = 0.5 - 0.5 * np.cos(turn)
    power = np.abs(np.fft.rfft(sharpened[places] * window)) ** 2
    return (np.log(bank @ power + 1e-5) + 4.5) / 5


@pytest.fixture(scope="module", params=FRONT_ENDS)
def front_end(request: pytest.FixtureRequest) -> FrontEnd:
    return FRONT_ENDS[request.param]


@pytest.fixture(scope="module")
def bank(front_end: FrontEnd) -> np.ndarray:
    bins = range(front_end.fft // 2 + 1)
    return np.array([[triangle(front_end, band, bin_) for bin_ in bins] for band in range(front_end.mels)])


def test_lengths_are_those_of_the_reference() -> None:
    """`AugmentMelSTFT` in teachers_gang.py of github.com/CPJKU/cpjku_dcase22: the teacher, the student."""
    assert FRONT_ENDS["128x100"] == FrontEnd(mels=128, frames=100, fft=1024, window=800, hop=320)
    assert FRONT_ENDS["256x44"] == FrontEnd(mels=256, frames=44, fft=2048, window=2048, hop=744)


def test_a_second_gives_exactly_the_columns_of_its_name() -> None:
    for name, front_end in FRONT_ENDS.items():
        made = log_mel(torch.from_numpy(noise(32_000)).float()[None], front_end)
        assert name == f"{made.shape[1]}x{made.shape[2]}" == f"{front_end.mels}x{front_end.frames}"


def test_the_mel_bank_is_kaldis(front_end: FrontEnd, bank: np.ndarray) -> None:
    made = mel_bank(front_end)
    assert made.shape == bank.shape
    assert made.numpy() == pytest.approx(bank, abs=1e-4)
    assert (made.sum(1) > 0).all(), "every band has a frequency"


def test_columns_are_what_a_computation_by_hand_gives(front_end: FrontEnd, bank: np.ndarray) -> None:
    samples = noise(32_000).astype(np.float32)
    made = log_mel(torch.from_numpy(samples)[None], front_end)[0].numpy()
    for frame in (0, 1, front_end.frames // 2, front_end.frames - 1):
        expected = by_hand(samples.astype(np.float64), front_end, frame, bank)
        assert made[:, frame] == pytest.approx(expected, abs=2e-4)


def test_silence_is_the_logarithm_of_the_smallest_power(front_end: FrontEnd) -> None:
    made = log_mel(torch.zeros(2, 32_000), front_end)
    assert torch.allclose(made, torch.tensor((math.log(1e-5) + 4.5) / 5))


def test_a_tone_is_in_its_band_at_all_times(tmp_path: Path, front_end: FrontEnd) -> None:
    for hertz in (440, 5_000, 12_000):
        soundfile.write(tmp_path / "tone.wav", 0.5 * np.sin(2 * np.pi * hertz * SECOND), 44_100, subtype="PCM_24")
        loudest = log_mel(clip(tmp_path / "tone.wav")[None], front_end)[0, :, 2:-2].argmax(0)
        band = mel(hertz) / mel(16_000) * (front_end.mels + 1) - 1
        assert (loudest - band).abs().max() < 1.5


def test_a_clip_is_resampled_as_by_another_resampler(tmp_path: Path) -> None:
    samples = 0.3 * np.sin(2 * np.pi * 1000 * SECOND) + 0.3 * np.sin(2 * np.pi * 9000 * SECOND + 1)
    soundfile.write(tmp_path / "clip.wav", samples, 44_100, subtype="PCM_24")
    made = clip(tmp_path / "clip.wav")
    assert made.dtype == torch.float32 and made.shape == (32_000,)
    other = scipy.signal.resample_poly(samples, 320, 441, window=("kaiser", 12.0))
    assert made[500:-500].numpy() == pytest.approx(other[500:-500], abs=2e-3)


def test_all_24_bits_are_read_and_what_32_khz_cannot_hold_is_gone(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "faint.wav", 2e-5 * np.sin(2 * np.pi * 1000 * SECOND), 44_100, subtype="PCM_24")
    faint = clip(tmp_path / "faint.wav")[500:-500]
    assert faint.abs().max() == pytest.approx(2e-5, rel=0.02), "16 bits would be one step of 3e-5"
    soundfile.write(tmp_path / "high.wav", 0.5 * np.sin(2 * np.pi * 18_000 * SECOND), 44_100, subtype="PCM_24")
    assert clip(tmp_path / "high.wav")[500:-500].abs().max() < 1e-4


@pytest.mark.parametrize(
    ("shape", "rate", "said"),
    [
        ((22_050,), 44_100, "22,050 samples at 44,100 Hz in 1 channel;"),
        ((441_000,), 44_100, "441,000 samples at 44,100 Hz in 1 channel;"),
        ((48_000,), 48_000, "48,000 samples at 48,000 Hz in 1 channel;"),
        ((44_100, 2), 44_100, "44,100 samples at 44,100 Hz in 2 channels;"),
    ],
)
def test_other_sounds_are_refused(tmp_path: Path, shape: tuple[int, ...], rate: int, said: str) -> None:
    file = tmp_path / "other.wav"
    soundfile.write(file, np.zeros(shape), rate, subtype="PCM_24")
    with pytest.raises(BenchError) as raised:
        clip(file)
    assert said in str(raised.value) and str(file) in str(raised.value)
    assert "expected 44,100 samples (one second) at 44,100 Hz in 1 channel" in str(raised.value)


def test_garbled_files_are_refused(tmp_path: Path) -> None:
    whole = tmp_path / "whole.wav"
    soundfile.write(whole, noise(44_100), 44_100, subtype="PCM_24")
    garbled = {"text": b"no sound", "empty": b"", "header": whole.read_bytes()[:20], "cut": whole.read_bytes()[:70_000]}
    for name, content in garbled.items():
        file = tmp_path / f"{name}.wav"
        file.write_bytes(content)
        with pytest.raises(BenchError, match=f"{name}.wav"):
            clip(file)
    with pytest.raises(BenchError, match=r"gone\.wav"):
        clip(tmp_path / "gone.wav")


@pytest.mark.parametrize("missing", ["soundfile", "soxr", "kaldi_native_fbank"])
def test_without_the_extra_one_is_told_its_name(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    check_libraries("asc")
    ordinary = builtins.__import__

    def without(name: str, *more: object) -> object:
        if name == missing:
            raise ModuleNotFoundError(f"No module named {name!r}")
        return ordinary(name, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(BenchError) as raised:
        check_libraries("asc")
    assert "asc needs" in str(raised.value) and missing in str(raised.value)
    assert str(raised.value).endswith("pip install 'labbench[audio]'")


def test_the_two_front_ends_see_the_same_loudness() -> None:
    samples = torch.from_numpy(noise(32_000)).float()[None]
    means = [float((5 * log_mel(samples, front_end)).mean()) for front_end in spectrogram.FRONT_ENDS.values()]
    assert abs(means[0] - means[1]) < 1.0, "a window of 2,048 gathers 2.6 times the power of one of 800: ln 2.6 = 0.94"


@pytest.mark.parametrize("form", ["FLAC", "OGG", "AIFF"])
def test_only_a_wav_is_opened_whatever_a_file_is_called(form: str, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "x.wav", np.zeros(44_100), 44_100, format=form)
    with pytest.raises(BenchError, match=r"x\.wav cannot be read as a wav file \(it does not begin as one\)"):
        spectrogram.clip(tmp_path / "x.wav")


def test_a_pipe_that_is_called_like_a_sound_holds_nothing_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.wav")
    with pytest.raises(BenchError, match=r"x\.wav cannot be read as a wav file \(it is no file\)"):
        spectrogram.clip(tmp_path / "x.wav")

"""From a wav file to what a model of sounds takes: log-mel spectrograms, as CP-JKU computed them for DCASE 2022."""

import functools
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from labbench.bench.errors import BenchError

RECORDED, RATE = 44_100, 32_000
"""Samples in a second of the file, and of what is computed with."""
PRE_EMPHASIS = 0.97


@dataclass(frozen=True)
class FrontEnd:
    """The geometry of a spectrogram. Lengths are in samples at 32 kHz."""

    mels: int
    """Rows: frequency bands, the lowest first."""
    frames: int
    """Columns that a clip of one second gives."""
    fft: int
    window: int
    """In the middle of `fft` samples, the others zero."""
    hop: int


FRONT_ENDS: dict[str, FrontEnd] = {
    "128x100": FrontEnd(mels=128, frames=100, fft=1024, window=800, hop=320),
    "256x44": FrontEnd(mels=256, frames=44, fft=2048, window=2048, hop=744),
}


def check_libraries(owner: str) -> None:
    """Raise `BenchError` where the libraries of the extra "audio" cannot be imported."""
    try:
        import kaldi_native_fbank  # noqa: F401
        import soundfile  # noqa: F401
        import soxr  # noqa: F401
    except (ImportError, OSError) as error:  # soundfile raises OSError where its libsndfile is not there
        raise BenchError(
            f"{owner} needs soundfile, soxr and kaldi-native-fbank ({error}): pip install 'labbench[audio]'"
        ) from error


def clip(path: Path) -> Tensor:
    """One second of sound, -1 to 1, resampled to 32 kHz: float32, 32,000 samples.

    Raises `BenchError` for a file that is no sound, or not one second of one channel at 44.1 kHz.
    """
    import soundfile
    import soxr

    try:
        _check_wav(path)
        with soundfile.SoundFile(path) as file:
            found = file.frames, file.samplerate, file.channels
            samples = file.read(frames=RECORDED, dtype="float32")
    except (OSError, soundfile.SoundFileError) as error:
        raise BenchError(f"{path} cannot be read as a wav file ({error}); unpack it again") from error
    if found != (RECORDED, RECORDED, 1) or len(samples) != RECORDED:
        said = f"{found[0]:,} samples at {found[1]:,} Hz in {found[2]} channel{'s' if found[2] > 1 else ''}"
        raise BenchError(
            f"{path} has {said}; expected {RECORDED:,} samples (one second) at {RECORDED:,} Hz in 1 channel"
        )
    return torch.from_numpy(soxr.resample(samples, RECORDED, RATE, quality="HQ"))


def _check_wav(path: Path) -> None:
    """Raise `OSError` for what is no wav file: libsndfile would open many other formats, and wait for a pipe."""
    if not path.is_file():
        raise OSError("it is no file")
    with path.open("rb") as file:
        head = file.read(12)
    if head[:4] not in (b"RIFF", b"RIFX", b"RF64") or head[8:] != b"WAVE":
        raise OSError("it does not begin as one")


def log_mel(clips: Tensor, front_end: FrontEnd) -> Tensor:
    """Clips N×32,000 → log-mel spectrograms, float32 N×mels×frames, mostly between -1.5 and 1.5.

    `AugmentMelSTFT` of github.com/CPJKU/cpjku_dcase22 (models/passt/preprocess.py) without its augmentation. Where no
    sample comes before, pre-emphasis gives none: 31,999 remain. Frames are centered on every `hop`-th of them, the ends
    reflected by half an FFT, so there are 1 + 31,999 // hop: exactly 100 or 44. The Hann window is symmetric.
    """
    sharpened = clips[:, 1:] - PRE_EMPHASIS * clips[:, :-1]
    window = torch.hann_window(front_end.window, periodic=False)
    waves = torch.stft(
        sharpened, front_end.fft, front_end.hop, front_end.window, window, pad_mode="reflect", return_complex=True
    )
    power = torch.view_as_real(waves).square().sum(-1)
    return ((mel_bank(front_end) @ power + 1e-5).log() + 4.5) / 5


@functools.cache
def mel_bank(front_end: FrontEnd) -> Tensor:
    """Triangles that sum power into bands, float32 mels × (fft / 2 + 1), from 0 Hz to 16 kHz.

    Kaldi's: corners evenly spaced on the HTK mel scale, 1127 ln(1 + f / 700), edges straight in mel (not in Hz, as in
    librosa), peaks of 1 (not equal areas, as Slaney's).
    """
    import kaldi_native_fbank

    bands = kaldi_native_fbank.MelBanksOptions(num_bins=front_end.mels, low_freq=0, high_freq=RATE / 2)
    frame = kaldi_native_fbank.FrameExtractionOptions()
    frame.samp_freq, frame.frame_length_ms = RATE, 1000 * front_end.fft / RATE
    return torch.from_numpy(kaldi_native_fbank.MelBanks(bands, frame).get_matrix())

"""The clips of a pack as a codec has them: one array of codes a split, in a file beside the pack's own.

codes-RUN.npz, RUN being the folder's name of the run that trained the codec, holds
    train, val, eval               (codes,) uint16, the clips of a split one after the other
    train_lengths, ...             (clips,) how many codes each clip of the split has
    fingerprint, weights, count    of the pack, of the codec's weights, and how many codes there are to choose from
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bench.data import beside
from bench.data.dataset import SPLITS
from bench.data.pack import Pack
from bench.errors import UserError

__all__ = ["Codes", "codes_file", "make_codes", "read_codes", "write_codes"]

_AGAIN = "remove it, and `bench run` with the codec's folder makes it again"


@dataclass(frozen=True)
class Codes:
    """The codes of a pack's clips."""

    # a digest of the weights of the codec
    weights: str
    # how many there are to choose from: 0 to count - 1
    count: int
    # by split: (codes,), clip after clip, and how many each clip has, (clips,)
    values: Mapping[str, npt.NDArray[np.uint16]]
    lengths: Mapping[str, npt.NDArray[np.int64]]

    def starts(self, split: str) -> npt.NDArray[np.int64]:
        """Return where each clip's codes begin: (clips,)."""
        return np.cumsum(self.lengths[split]) - self.lengths[split]

    def clips(self, split: str) -> list[npt.NDArray[np.uint16]]:
        """Return the codes of each clip."""
        return np.split(self.values[split], self.starts(split)[1:])


def codes_file(pack: Pack, run: str) -> Path:
    """Return where the codes of a pack by the codec of a run lie, whether they are there or not."""
    return pack.folder / f"codes-{run}.npz"


def make_codes(pack: Pack, run: str, make: Callable[[], Codes]) -> None:
    """Write the codes of a pack's clips, unless they are there; of several processes one makes them.

    Raises UserError where the pack's folder can't be written to.
    """
    beside.make_once(codes_file(pack, run), lambda: write_codes(pack, run, make()))


def write_codes(pack: Pack, run: str, codes: Codes) -> None:
    """Write the codes of a pack's clips."""
    arrays = {
        "fingerprint": np.array(pack.fingerprint),
        "weights": np.array(codes.weights),
        "count": np.array(codes.count),
    }
    for split in SPLITS:
        arrays |= {split: codes.values[split], f"{split}_lengths": codes.lengths[split]}
    beside.write_arrays(codes_file(pack, run), arrays)


def read_codes(pack: Pack, run: str) -> Codes:
    """Return the codes of a pack's clips by the codec of a run.

    Raises UserError if they are missing, damaged, or of another pack.
    """
    path = codes_file(pack, run)
    fix = "run the suite once with the folder of that run as codec, in [task_settings]"
    codes, fingerprint = _read(path, f"the pack has no codes of {run}; {fix}", *_state(path))
    beside.require_pack(path, fingerprint, pack.fingerprint, again=_AGAIN)
    clips = {split: len(pack.clips(split)) for split in SPLITS}
    if wrong := [split for split in SPLITS if len(codes.lengths[split]) != clips[split]]:
        raise UserError(f"{path}: damaged ({wrong[0]}: not as many clips as the pack has); {_AGAIN}")
    return codes


def _state(path: Path) -> tuple[int, int]:
    """Return what tells one file of that name from another; of one that can't be asked, nothing."""
    try:
        stamp = path.stat()
    except OSError:
        return 0, 0
    return stamp.st_mtime_ns, stamp.st_size


# all runs of a suite read the same ones
@lru_cache(maxsize=4)
def _read(path: Path, missing: str, *_of_file: int) -> tuple[Codes, str]:
    """Return codes, and the fingerprint of their pack."""
    arrays = beside.read_arrays(path, missing=missing, again=_AGAIN)
    try:
        values = {split: arrays[split] for split in SPLITS}
        lengths = {split: arrays[f"{split}_lengths"].astype(np.int64) for split in SPLITS}
        codes = Codes(str(arrays["weights"]), int(arrays["count"]), values, lengths)
        fingerprint = str(arrays["fingerprint"])
    except (KeyError, ValueError, TypeError) as error:
        raise beside.damaged(path, error, _AGAIN) from None
    for split in SPLITS:
        if codes.lengths[split].sum() != len(values[split]) or (codes.lengths[split] < 1).any():
            raise UserError(f"{path}: damaged ({split}: its clips are not its codes); {_AGAIN}")
        if values[split].dtype != np.uint16 or values[split].max(initial=0) >= codes.count:
            raise UserError(f"{path}: damaged ({split}: what is no code of its codec); {_AGAIN}")
    return codes, fingerprint

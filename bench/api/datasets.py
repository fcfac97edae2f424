"""Data sets: generate, pack and open them. No torch."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from bench.api.console import shown
from bench.data.pack import Pack
from bench.data.packing import pack as make_pack
from bench.runner.display import Display

if TYPE_CHECKING:
    from bench.inspect.gallery import Gallery

__all__ = [
    "DEMO", "demo_pack", "describe_duplicates", "describe_leaks", "describe_pack", "describe_uploaders", "duplicates",
    "gallery", "is_demo_missing", "pack", "packs_of",
]  # fmt: skip

# the generated data set: its recordings, and beside them its packs
DEMO = Path("data/demo")
# Hz, of the generated data set in a gallery
_GALLERY_RATE = 16_000


def pack(
    folder: str | Path,
    out: str | Path,
    *,
    sample_rate: int = 16_000,
    strict: bool = False,
    no_duplicates: bool = False,
    display: Display | None = None,
) -> Pack:
    """Decode a data set in FSD50K's layout once, into a pack at `sample_rate` Hz.

    Raises UserError if the data set is unusable, `out` is taken or the disk too small; with `strict` also at the first
    recording that can't be used, instead of leaving it out; with `no_duplicates` also if a recording is in several
    splits, unless the data set is FSD50K, whole.
    """
    display = shown(display)
    with display.bar(f"packing {folder} at {sample_rate} Hz") as progress:
        return make_pack(
            Path(folder), Path(out), sample_rate=sample_rate, strict=strict, no_duplicates=no_duplicates,
            progress=progress, notice=display.notice,
        )  # fmt: skip


def duplicates(pack: str | Path, *, display: Display | None = None) -> pd.DataFrame:
    """Find clips of a pack that are, or seem to be, of one recording: also louder, cut at their ends, or compressed.

    Returns a row a pair, in the order of the pack: `first` and `second` (SPLIT/CLIP), `across` (whether they are in two
    splits), `exact` (the same to the sample), `correlation` (of what they have in common), `offset` (seconds of the
    first before the second begins).
    """
    # scipy and soxr, for which no other command should wait
    from bench.data.duplicates import find_duplicates

    with shown(display).bar(f"comparing the clips of {pack}") as progress:
        found = find_duplicates(Pack(Path(pack)), progress)
    # of no pairs the columns have their types, too
    types = {"first": str, "second": str, "across": bool, "exact": bool, "correlation": float, "offset": float}
    return pd.DataFrame([[getattr(pair, name) for name in types] for pair in found], columns=list(types)).astype(types)


def gallery(
    pack: str | Path, out: str | Path = "gallery", *, split: str = "train", display: Display | None = None
) -> "Gallery":
    """Draw a typical clip of every class of a pack as a spectrogram: gallery.pdf, gallery_1.png, ... and gallery.csv.

    Of a class's clips in `split` it is one with no other labels, or the fewest: of 1 to 10 s if there is any, and of
    these the one whose length is nearest to the median of the class. `pack` may be 'demo', the generated data set.
    Raises UserError if there is no such pack, nothing in it to draw, or `out` is no folder.
    """
    # matplotlib, for which no other command should wait
    from bench.inspect.gallery import make_gallery

    display = shown(display)
    (opened,) = packs_of([Path(pack)], [_GALLERY_RATE], display)
    with display.bar(f"drawing {opened.folder}") as progress:
        return make_gallery(opened, split, Path(out), progress)


def packs_of(data: Sequence[Path], sample_rates: Sequence[int], display: Display) -> list[Pack]:
    """Open packs; `demo` is the generated data set at all of these sample rates, unless there is such a folder."""
    folders: list[Path] = []
    for folder in data:
        folders += [demo_pack(rate, display) for rate in sample_rates] if _is_demo(folder) else [folder]
    return [Pack(folder) for folder in folders]


def is_demo_missing(data: Sequence[Path], sample_rates: Sequence[int]) -> bool:
    """Return whether a pack of the generated data set is named that has still to be made."""
    made = all(_is_made(_demo_folder(rate)) for rate in sample_rates)
    return any(map(_is_demo, data)) and not made


def _is_demo(folder: Path) -> bool:
    return folder == Path("demo") and not folder.exists()


def _is_made(packed: Path) -> bool:
    return (packed / "manifest.json").exists()


def _demo_folder(sample_rate: int) -> Path:
    return DEMO.with_name(f"demo-{sample_rate}")


def demo_pack(sample_rate: int, display: Display) -> Path:
    """Return the pack of the generated data set, made where it is missing."""
    packed = _demo_folder(sample_rate)
    if not _is_made(packed):
        if not DEMO.exists():
            # the sounds need scipy.signal, for which no other command should wait
            from bench.data.synthetic.demo import write_demo

            with display.bar(f"generating {DEMO}") as progress:
                write_demo(DEMO, progress=progress, notice=display.notice)
        display.notice(describe_pack(pack(DEMO, packed, sample_rate=sample_rate, strict=True, display=display)))
    return packed


def describe_pack(packed: Pack) -> str:
    """Return what a pack holds, in a line."""
    clips = ", ".join(f"{split} {count}" for split, count in packed.manifest["clips"].items())
    lost = "".join(f", {len(keys)} {note}" for note, keys in packed.levels.items())
    return f"{packed.folder}: {clips}; {packed.left_out_count} left out{lost}"


def describe_leaks(packed: Pack) -> list[str]:
    """Return which recordings are in several splits, and how many uploaders, as far as that is known."""
    same, clips = packed.overlap(), packed.manifest["clips"]["eval"]
    lines = [f"same: {' = '.join(keys)}: one recording in several splits" for keys in same]
    if same:
        copied = f"clips of eval among them: {packed.copied_eval_clips} of {clips}"
        lines.append(f"recordings in several splits: {len(same)}; {copied}")
    return lines + describe_uploaders(packed.uploaders())


def describe_uploaders(counts: Mapping[str, int]) -> list[str]:
    """Return how many uploaders have clips in two splits, in a line; none where they are not known."""
    if not counts:
        return []
    known = counts["all"]
    shared = [f"{count} of {known} have clips in both {splits}" for splits, count in counts.items() if splits != "all"]
    return [f"uploaders: {', '.join(shared)}"]


def describe_duplicates(pack: Path, found: pd.DataFrame) -> list[str]:
    """Return the pairs across splits, a line each, and how many there are."""
    across = found[found["across"]]
    lines = [
        f"{pair.first} = {pair.second}: the same to the sample"
        if pair.exact
        else f"{pair.first} ~ {pair.second}: correlation {pair.correlation:.2f}, {pair.offset:+.2f} s"
        for pair in across.itertuples()
    ]
    clips = sum(key.startswith("eval/") for key in {*across["first"], *across["second"]})
    exact, within = int(across["exact"].sum()), len(found) - len(across)
    counts = f"{len(across)} pairs across splits, {exact} of them the same to the sample; {within} within a split"
    return [*lines, f"{pack}: {counts}; clips of eval in pairs across: {clips}"]

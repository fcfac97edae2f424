"""Data sets: generate, pack and open them. No torch."""

from collections.abc import Callable, Mapping, Sequence
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
    "DEMO", "GENERATED", "demo_pack", "describe_duplicates", "describe_leaks", "describe_pack", "describe_uploaders",
    "duplicates", "gallery", "missing_sets", "pack", "packs_of",
]  # fmt: skip

# the generated data sets, by the names that stand for them: their recordings, and beside them their packs
GENERATED = {name: Path("data") / name for name in ("demo", "pitch")}
DEMO = GENERATED["demo"]
# Hz, of a generated data set in a gallery
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
    these the one whose length is nearest to the median of the class. `pack` may be 'demo' or 'pitch', which are
    generated. Raises UserError if there is no such pack, nothing in it to draw, or `out` is no folder.
    """
    # matplotlib, for which no other command should wait
    from bench.inspect.gallery import make_gallery

    display = shown(display)
    (opened,) = packs_of([Path(pack)], [_GALLERY_RATE], display)
    with display.bar(f"drawing {opened.folder}") as progress:
        return make_gallery(opened, split, Path(out), progress)


def packs_of(data: Sequence[Path], sample_rates: Sequence[int], display: Display) -> list[Pack]:
    """Open packs; the name of a generated set is that set at all of these sample rates, unless there is such a folder.

    Raises UserError if there is no such pack, or a set is asked for at a rate that is too low for its sounds.
    """
    folders: list[Path] = []
    for folder in data:
        name = _generated(folder)
        folders += [_generated_pack(name, rate, display) for rate in sample_rates] if name else [folder]
    return [Pack(folder) for folder in folders]


def missing_sets(data: Sequence[Path], sample_rates: Sequence[int]) -> list[str]:
    """Return the names of the generated sets that are named, and that have still to be made."""
    named = [name for name in map(_generated, data) if name]
    return [name for name in named if not all(_is_made(_pack_folder(name, rate)) for rate in sample_rates)]


def _generated(folder: Path) -> str:
    """Return the name of the generated set that a folder stands for, or '' for a folder that is one."""
    return str(folder) if str(folder) in GENERATED and not folder.exists() else ""


def _is_made(packed: Path) -> bool:
    return (packed / "manifest.json").exists()


def _pack_folder(name: str, sample_rate: int) -> Path:
    recordings = GENERATED[name]
    return recordings.with_name(f"{recordings.name}-{sample_rate}")


def demo_pack(sample_rate: int, display: Display) -> Path:
    """Return the pack of the demo set, made where it is missing."""
    return _generated_pack("demo", sample_rate, display)


def _generated_pack(name: str, sample_rate: int, display: Display) -> Path:
    """Return the pack of a generated set, made where it is missing."""
    folder, packed = GENERATED[name], _pack_folder(name, sample_rate)
    if not _is_made(packed):
        # their sounds need scipy.signal, for which no other command should wait
        from bench.data.synthetic import demo, pitch

        if name == "pitch":
            pitch.require_rate(sample_rate)
        if not folder.exists():
            writers: dict[str, Callable[..., None]] = {"demo": demo.write_demo, "pitch": pitch.write_pitch}
            with display.bar(f"generating {folder}") as progress:
                writers[name](folder, progress=progress, notice=display.notice)
        display.notice(describe_pack(pack(folder, packed, sample_rate=sample_rate, strict=True, display=display)))
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

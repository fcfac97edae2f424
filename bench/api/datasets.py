"""Data sets: generate, pack and open them. No torch."""

from collections.abc import Sequence
from pathlib import Path

from bench.api.console import shown
from bench.data.pack import Pack
from bench.data.packing import pack as make_pack
from bench.runner.display import Display

__all__ = ["DEMO", "demo_pack", "describe_pack", "is_demo_missing", "pack", "packs_of"]

# the generated data set: its recordings, and beside them its packs
DEMO = Path("data/demo")


def pack(
    folder: str | Path,
    out: str | Path,
    *,
    sample_rate: int = 16_000,
    strict: bool = False,
    display: Display | None = None,
) -> Pack:
    """Decode a data set in FSD50K's layout once, into a pack at `sample_rate` Hz.

    Raises UserError if the data set is unusable, `out` is taken or the disk too small; with `strict` also at the first
    recording that can't be used, instead of leaving it out.
    """
    display = shown(display)
    with display.bar(f"packing {folder} at {sample_rate} Hz") as progress:
        return make_pack(
            Path(folder), Path(out), sample_rate=sample_rate, strict=strict, progress=progress, notice=display.notice
        )


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

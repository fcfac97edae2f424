"""A data set to look at: of each class one typical clip, as a spectrogram. No torch."""

import base64
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure

from bench.data.audio import spectrogram_of
from bench.data.dataset import SPLITS, Progress
from bench.data.pack import Pack
from bench.disk import refuse_odd, write_bytes
from bench.errors import UserError
from bench.reporting.figures.gallery import COLUMNS, Picture, gallery_pages, mel_bands, pictures_on_page
from bench.reporting.figures.style import save
from bench.reporting.text import figure_text
from bench.store.files import write_table

__all__ = ["Gallery", "make_gallery", "typical_clips"]

# seconds: within these a clip is long enough to be told, and short enough to be seen
_SECONDS = (1.0, 10.0)
# of a picture: what is shorter, a click, is shown as it is repeated
_LEAST_SECONDS = 0.1
_PAGE = re.compile(r"gallery_\d+\.png")


@dataclass(frozen=True)
class Gallery:
    """A row a class (class, clip, seconds, clips, labels, page), and the files; it shows itself in a notebook."""

    table: pd.DataFrame = field(repr=False)
    pdf: Path
    csv: Path
    # one a page
    pngs: tuple[Path, ...]
    # classes of which the split has no clip
    absent: tuple[str, ...] = field(repr=False)

    def _repr_html_(self) -> str:
        data = (base64.b64encode(path.read_bytes()).decode() for path in self.pngs)
        return "".join(f'<img src="data:image/png;base64,{page}">' for page in data)


def typical_clips(pack: Pack, split: str) -> pd.DataFrame:
    """Return a row a class that the split has clips of: class, clip, seconds, clips, labels, place in the split.

    Of a class's clips those with the fewest labels, which in a hierarchy are the class and what is above it; of these
    those that no class before has, and then those of 1 to 10 s, if there are any; of these the one whose length is
    nearest to the median of all the class's clips, and of two the first by name. `clips` is how many there are,
    `labels` all that the clip has.
    """
    index, targets = pack.clips(split), pack.targets(split)
    seconds, labels = index["seconds"].to_numpy(), targets.sum(axis=1)
    is_odd = (seconds < _SECONDS[0]) | (seconds > _SECONDS[1])
    names = index["clip"].astype(str).to_numpy()
    rows, is_taken = [], np.zeros(len(index), dtype=bool)
    for k in np.flatnonzero(targets.any(axis=0)):
        clips = np.flatnonzero(targets[:, k])
        distance = np.abs(seconds[clips] - np.median(seconds[clips])).round(6)
        best = clips[np.lexsort((names[clips], distance, is_odd[clips], is_taken[clips], labels[clips]))[0]]
        is_taken[best] = True
        others = " ".join(pack.labels[other] for other in np.flatnonzero(targets[best]))
        rows.append((pack.labels[k], names[best], float(seconds[best]), len(clips), others, int(best)))
    return pd.DataFrame(rows, columns=["class", "clip", "seconds", "clips", "labels", "place"])


def make_gallery(pack: Pack, split: str, out: Path, progress: Progress = lambda *_: None) -> Gallery:
    """Draw a split's typical clips, and write gallery.pdf, gallery_1.png, ... and gallery.csv into a folder.

    The same pack gives the same bytes; `progress` takes classes. Raises UserError if there is no such split, or no
    labelled clip in it, or if `out` is no folder.
    """
    if split not in SPLITS:
        raise UserError(f"--split {split}: no such split; use {', '.join(SPLITS)}")
    chosen = typical_clips(pack, split)
    if chosen.empty:
        others = [other for other in SPLITS if pack.targets(other).any()]
        instead = f"take --split {others[0]}" if others else "there is nothing to draw"
        raise UserError(f"{pack.folder}: no clip of {split} has a label; {instead}")
    # a link is followed, as everywhere
    if not out.is_dir():
        refuse_odd(out, folder=True)
        out.mkdir(parents=True)
    index, pictures = pack.clips(split), []
    for done, (_, row) in enumerate(chosen.iterrows(), start=1):
        power = _power(pack, split, index.loc[row["place"]])
        pictures.append(Picture(row["class"], row["clip"], row["seconds"], power))
        progress(done, len(chosen))
    what = f"Each picture is a whole clip of {figure_text(str(pack.manifest['source']), 30)}, {split}"
    pngs = _write(gallery_pages(pictures, pack.sample_rate, what), out)
    table = chosen.drop(columns="place")
    table["page"] = np.arange(len(table)) // pictures_on_page(len(table)) + 1
    write_table(out / "gallery.csv", table)
    absent = tuple(label for label in pack.labels if label not in set(table["class"]))
    return Gallery(table, out / "gallery.pdf", out / "gallery.csv", pngs, absent)


def _power(pack: Pack, split: str, clip: "pd.Series[Any]") -> npt.NDArray[np.floating[Any]]:
    """Return a clip's power in mel bands, of its recording once: a short one is repeated in the pack."""
    rate = pack.sample_rate
    length = min(clip["length"], max(round(clip["seconds"] * rate), round(_LEAST_SECONDS * rate)))
    samples = pack.samples(split)[clip["start"] : clip["start"] + length]
    return mel_bands(spectrogram_of([samples], length, rate, COLUMNS), rate)


def _write(pages: Iterator[Figure], out: Path) -> tuple[Path, ...]:
    """Write pages, all as one PDF and each as a PNG; those of an earlier gallery, which had more, go."""
    pngs, file = [], io.BytesIO()
    dateless = {"CreationDate": None, "Creator": None, "Producer": None}
    with PdfPages(file, metadata=dateless) as pdf:
        for number, page in enumerate(pages, start=1):
            pdf.savefig(page)
            pngs.append(out / f"gallery_{number}.png")
            save(page, pngs[-1], [".png"])
    write_bytes(out / "gallery.pdf", file.getvalue())
    for path in out.iterdir():
        if _PAGE.fullmatch(path.name) and path not in pngs:
            path.unlink()
    return tuple(pngs)

"""All parts, one after the other, and what is kept of them."""

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import torch

from bench.disk import write_json
from bench.errors import UserError
from benchmarks import figures
from benchmarks.growth import exponent, measure_growth
from benchmarks.machine import measure_machine
from benchmarks.parts import PARTS, Bench
from benchmarks.rows import markdown, table

EVERY = (*PARTS, "growth")


def check_parts(names: Sequence[str]) -> None:
    """Raises UserError for one that does not exist."""
    for name in names:
        if name not in EVERY:
            raise UserError(f"--only {name}: use one of {', '.join(EVERY)}")


def measure_speed(
    out: Path,
    *,
    dataset: Path,
    pack: Path,
    device: torch.device,
    only: Sequence[str],
    quick: bool,
    progress: Callable[[str], None],
) -> str:
    """Measure parts (all, if none is named) into `out`, and return the table.

    `speed-CONDITIONS.csv` gets a row a pair; parts measured there before and not now are kept.
    """
    out.mkdir(parents=True, exist_ok=True)
    progress("the machine")
    machine = measure_machine(device)
    name = f"{machine.slug}{'-quick' if quick else ''}"
    write_json(out / f"machine-{name}.json", machine.as_dict())
    with TemporaryDirectory(dir=out, prefix="scratch-") as scratch:
        bench = Bench(machine, device, dataset, pack, Path(scratch), quick)
        for key in only or EVERY:
            if key == "growth":
                points = measure_growth(quick, progress)
                points.to_csv(out / f"growth-{name}.csv", index=False, float_format="%.5g", lineterminator="\n")
            else:
                progress(key)
                _keep(out / f"speed-{name}.csv", key, table(list(PARTS[key](bench))))
    return write_speed(out, name)


def _keep(path: Path, key: str, measured: pd.DataFrame) -> None:
    """Replace the rows of one part, and leave the file whole at any time."""
    measured.insert(0, "key", key)
    if path.exists():
        before = pd.read_csv(path)
        measured = pd.concat([before[before["key"] != key], measured], ignore_index=True)
        measured = measured.sort_values("key", key=lambda keys: keys.map(list(PARTS).index), kind="stable")
    temporary = path.with_suffix(".partial")
    measured.to_csv(temporary, index=False, lineterminator="\n")
    os.replace(temporary, path)


def write_speed(out: Path, name: str) -> str:
    """Table and figures of what was measured under these conditions."""
    machine = json.loads((out / f"machine-{name}.json").read_text("utf-8"))
    text = f"On {machine['name']}, torch {machine['torch']}"
    if (path := out / f"speed-{name}.csv").exists():
        frame = pd.read_csv(path)
        text += f":\n\n{markdown(frame)}\n"
        figures.roofline(frame, machine, out / f"roofline-{name}")
    if (path := out / f"growth-{name}.csv").exists():
        points = pd.read_csv(path)
        text += "\n| grows with | work | exponent of time | megabytes |\n| --- | --- | ---: | ---: |\n"
        for _, own in points.groupby("what", sort=False):
            first, last = own.iloc[0], own.iloc[-1]
            grown = f"{first['megabytes']:.0f} to {last['megabytes']:.0f}"
            unit = f"{first['unit']}, {first['value']:g} to {last['value']:g}"
            text += f"| {unit} | {first['work']} | {exponent(own, 'seconds'):.2f} | {grown} |\n"
        figures.growth(points, out / f"growth-{name}")
    (out / f"table-{name}.md").write_text(text, "utf-8")
    return text

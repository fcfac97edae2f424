"""All runs of a suite, in their order."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch

from architectures import ConfigError, configure, get_architecture, list_architectures
from bench.data.pack import Pack
from bench.errors import UserError
from bench.protocol.precision import computes_bf16
from bench.protocol.spec import RunSpec
from bench.suites.suite import Entry, Suite

CPU = torch.device("cpu")


def rows(suite: Suite, only: Sequence[str] = ()) -> list[Entry]:
    """The suite's rows, or those named on the command line, each once, with all that they take from their bases.

    Raises:
        UserError: an unknown name.
    """
    names = list_architectures(in_all_only=True) if suite.contestants == "all" else suite.contestants
    try:
        own = [suite.resolved(entry) for entry in suite.runs]
        for entry in own:
            get_architecture(entry.architecture)
        declared = {entry.name: entry for entry in [*map(_row, names), *own]}
        chosen = [declared.get(row_name(name)) or _row(name) for name in only or declared]
    except ConfigError as error:
        raise UserError(str(error)) from None
    return list({entry.name: entry for entry in chosen}.values())


def _row(architecture: str) -> Entry:
    return Entry(name=row_name(get_architecture(architecture).name), architecture=architecture)


def row_name(architecture: str) -> str:
    """What an architecture's row and folders are called; those of timm:convnext_atto are timm-convnext_atto."""
    return architecture.replace(":", "-")


def sample_rates(suite: Suite, only: Sequence[str], sets: Mapping[str, Any]) -> list[int]:
    """Of the packs that the rows need, in Hz. Raises UserError as `rows` and `Suite.settings`."""
    families = ((entry, get_architecture(entry.architecture).family) for entry in rows(suite, only))
    return sorted({suite.settings(entry, family, sets)[0] for entry, family in families})


def plan(
    suite: Suite,
    packs: Sequence[Pack],
    *,
    only: Sequence[str] = (),
    seeds: int | None = None,
    sets: Mapping[str, Any] | None = None,
    device: torch.device = CPU,
) -> list[tuple[RunSpec, Pack]]:
    """All runs of a suite, seed by seed, so that a half-done suite compares all contestants.

    `device` settles what a precision of 'auto' is.

    Raises:
        UserError: an unknown name or field, no pack of a needed sample rate, or packs of different data.
    """
    if len({pack.dataset for pack in packs}) > 1:
        raise UserError(f"{packs[0].folder} and {packs[-1].folder} are packs of different data")
    if len({pack.sample_rate for pack in packs}) < len(packs):
        raise UserError("two of the packs have the same sample rate; one of each is enough")
    entries = rows(suite, only)
    first = suite.first_seed
    bf16 = computes_bf16(device)
    return [
        _spec(suite, entry, seed, packs, sets or {}, bf16)
        for seed in range(first, first + (seeds or suite.seeds))
        for entry in entries
    ]


def _spec(
    suite: Suite, entry: Entry, seed: int, packs: Sequence[Pack], sets: Mapping[str, Any], bf16: bool
) -> tuple[RunSpec, Pack]:
    architecture = get_architecture(entry.architecture)
    sample_rate, recipe, inferred = suite.settings(entry, architecture.family, sets)
    pack = _pack_at(sample_rate, packs, entry.name)
    fixed = {"sample_rate": sample_rate, "num_classes": len(pack.labels)}
    if given := sorted(fixed.keys() & entry.config.keys()):
        raise UserError(f"{entry.name}: config may not set {given[0]}, which follows from the pack")
    try:
        config = configure(entry.architecture, **fixed, **entry.config)
    except ConfigError as error:
        raise UserError(str(error) if entry.name == entry.architecture else f"{entry.name}: {error}") from None
    inferred = inferred | {k: v for k, v in architecture.inferred.items() if k not in entry.config}
    spec = RunSpec(
        name=entry.name,
        architecture=entry.architecture,
        config=asdict(config),
        recipe=recipe.on(bf16=bf16),
        seed=seed,
        pack=pack.fingerprint,
        inferred=inferred,
        source=architecture.source,
        base=entry.base,
        question=entry.question,
    )
    return spec, pack


def _pack_at(sample_rate: int, packs: Sequence[Pack], name: str) -> Pack:
    for pack in packs:
        if pack.sample_rate == sample_rate:
            return pack
    given = ", ".join(f"{pack.folder} ({pack.sample_rate} Hz)" for pack in packs) or "none"
    raise UserError(
        f"{name} needs a pack at {sample_rate} Hz, given: {given}; "
        f"make one with `bench data pack DIR --out PACK --sample-rate {sample_rate}` and add --data PACK"
    )

"""Options that several commands have: a command takes those that it names, as one dict."""

import glob
from collections.abc import Callable, Sequence
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from bench.cli.output import echo

if TYPE_CHECKING:
    from bench.api.console import ConsoleDisplay

__all__ = ["DeviceOption", "JsonOption", "complete_suite", "console", "options"]

Command = TypeVar("Command", bound=Callable[..., None])
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document instead.")]
DeviceOption = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ... or auto.")]


def _option(kind: Any, default: Any, *flags: str, **more: Any) -> tuple[Any, Any]:
    return Annotated[kind, typer.Option(*flags, **more)], default


# a command's argument -> its type and default
_OPTIONS: dict[str, tuple[Any, Any]] = {
    "data": _option(
        list[Path], [], "--data", help="A pack, one for each sample rate needed; or demo or pitch, which are generated."
    ),
    "out": _option(Path | None, None, help="Results folder [default: runs/SUITE]."),
    "only": _option(list[str], [], help="This entry or architecture only; repeatable."),
    "seeds": _option(int | None, None, min=1, help="How many seeds, from 0."),
    "seed": _option(int | None, None, min=0, max=2**31 - 1, help="This seed only, instead of several."),
    "part": _option(
        str | None, None, metavar="ENTRY-sSEED", help="This run only, and what scores its weights; planned are all."
    ),
    "report": _option(bool, True, "--report/--no-report", help="Report the results; else `bench report` does later."),
    "fields": _option(
        list[str], [], "--set", help="train.FIELD=VALUE or task_settings.FIELD=VALUE, for all; repeatable."
    ),
    "precision": _option(str | None, None, help="fp32, tf32, bf16 or auto, for all."),
    "jobs": _option(
        str | None, None, metavar="N|auto", help="Train in N processes; auto: one a core, or one a GPU [default: 1]."
    ),
    "ray": _option(
        str | None, None, metavar="[ADDRESS]", help="Train on a Ray cluster: HOST:PORT [default: this machine's]."
    ),
    "cpus": _option(float | None, None, help="With --ray: cores for each run [default: 1]."),
    "gpus": _option(float | None, None, help="With --ray: GPUs for each run, .25 for a quarter of one [default: 0]."),
    "device": (DeviceOption, "auto"),
    "mixed": _option(bool, False, "--mixed", help="Compare runs of different code all the same."),
    "quick": _option(bool, False, "--quick", help="A smoke run: 5 steps, one seed, in runs/SUITE-quick."),
    "dry_run": _option(bool, False, "--dry-run", help="Say what would run and what is finished; measure nothing."),
    "restart": _option(bool, False, "--restart", help="Begin anew where other code left a checkpoint, which is kept."),
    "trials": _option(int | None, None, min=1, help="Search: finished trials for each."),
    "steps": _option(int | None, None, min=1, help="Search: steps of training for each, over all trials."),
    "hours": _option(float | None, None, help="Search: hours of compute for each, over all workers."),
    "storage": _option(str | None, None, help="Search: URL of a database [default: OUT/search.db]."),
    "heartbeat": _option(int, 10, min=1, help="Search: seconds; a worker silent for three is dead."),
    "track": _option(bool, True, "--track/--no-track", envvar="BENCH_TRACK", help="Copy the results to MLflow."),
    "resamples": _option(int, 10_000, min=100, help="Of the bootstrap."),
    "by_group": _option(
        bool | None,
        None,
        "--by-group/--by-clip",
        help="Resample whole uploaders, or single clips [default: uploaders where 20 are known].",
    ),
    "margin": _option(float, 0.01, help="Differences within this, in the primary metric, are no difference."),
    "as_json": (JsonOption, False),
    "plugins": _option(list[Path], [], "--plugin", help="A Python file with architectures or tasks; repeatable."),
}


def complete_suite(begun: str) -> list[str]:
    """Return the suites that come with the project whose names begin like this, for the shell."""
    folder = Path(__file__).parents[1] / "suites"
    return sorted(path.stem for path in folder.glob(f"{glob.escape(begun)}*.toml"))


def console(plugins: Sequence[Path] = ()) -> "ConsoleDisplay":
    """Load files of users, and return what shows work on the terminal."""
    from bench.api.console import ConsoleDisplay
    from bench.api.plugins import load_plugins

    class Terminal(ConsoleDisplay):
        def reported(self, text: str) -> None:
            echo(text, lines=True)

    load_plugins(plugins)
    return Terminal()


def options(*names: str) -> Callable[[Command], Command]:
    """Give a command these options, after those that it declares itself; its **given takes them."""

    def extend(command: Command) -> Command:
        declared = [p for p in signature(command).parameters.values() if p.kind != p.VAR_KEYWORD]
        shared = [
            Parameter(n, Parameter.KEYWORD_ONLY, annotation=_OPTIONS[n][0], default=_OPTIONS[n][1]) for n in names
        ]
        # where typer looks
        command.__signature__ = Signature([*declared, *shared])  # type: ignore[attr-defined]
        return command

    return extend

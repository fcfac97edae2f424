"""The registry: a name leads to a config, a class and, where there is one, the published figure."""

import dataclasses
import difflib
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol, TypeVar, get_args, runtime_checkable

from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError, to_json
from torch import Tensor, nn

from architectures._source import plugin_root, source_of

Family = Literal["cnn", "transformer", "hybrid"]
_FAMILIES: tuple[Family, ...] = get_args(Family)
_TAGGING = "tagging"
# a name begins the names of its runs' folders, on any file system
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,79}")
_T = TypeVar("_T")
_Model = TypeVar("_Model", bound=type[nn.Module])


class ConfigError(ValueError):
    """An unknown architecture, or a field that is unknown or has an impossible value; one line, for the user."""


@dataclass(frozen=True, kw_only=True)
class ArchitectureConfig:
    """The fields that every architecture has. Subclasses add widths and depths, and check them when made."""

    sample_rate: int = 16_000
    num_classes: int = 200


@dataclass(frozen=True, kw_only=True)
class NextSampleConfig(ArchitectureConfig):
    """The fields of an architecture that predicts the next sample; num_classes is the number of codes."""

    num_classes: int = 256

    @property
    def receptive_field(self) -> int:
        """Return how many samples an output sees at most, its condition among them; the last is the one it is at."""
        raise NotImplementedError(f"{type(self).__name__} does not say its receptive_field")

    @property
    def condition_samples(self) -> int:
        """Return how many samples before a window are its condition alone: no output is at them."""
        return 0

    @property
    def max_context(self) -> int | None:
        """Return how many samples a window has at most; None: any number."""
        return None


@dataclass(frozen=True, kw_only=True)
class CodecConfig(ArchitectureConfig):
    """The fields of an architecture that makes codes of sounds; num_classes is the number of mel bands of a frame."""

    # what the other tasks' models return is as wide as num_classes, and so is a frame
    num_classes: int = 80
    # in each codebook
    num_codes: int = 256
    # codebooks, each for what those before it leave
    stages: int = 1

    # frames of 10 ms that have a code in each stage: 25 codes a second
    group: ClassVar[int] = 4

    def __post_init__(self) -> None:
        for name, value, most in (("num_codes", self.num_codes, 65_536), ("stages", self.stages, 16)):
            if not 1 <= value <= most:
                raise ValueError(f"{name}={value} must be 1 to {most:,}")


@runtime_checkable
class Codec(Protocol):
    """A model that makes codes of sounds, and sounds of codes: in eval mode, what `forward` rebuilds sounds from."""

    def encode(self, frames: Tensor) -> Tensor:
        """Return the codes of each group of frames: (b, t, m) -> (b, t / 4, stages) int64, 0 to num_codes - 1."""
        ...

    def decode(self, codes: Tensor) -> Tensor:
        """Return the frames that codes stand for: (b, t / 4, stages) -> (b, t, m)."""
        ...


@runtime_checkable
class CodecFittedLast(Protocol):
    """A codec that is trained without codes, which are fitted when training has ended."""

    def latents(self, frames: Tensor) -> Tensor:
        """Return a latent for each group of frames: (b, t, m) -> (b, t / 4, d)."""
        ...

    def fit_codebook(self, latents: Tensor, seed: int) -> None:
        """Fit the codes to latents of train's windows, (n, d); the same for the same arguments."""
        ...


@runtime_checkable
class Stepping(Protocol):
    """A model that predicts the next sample and keeps what it has computed of earlier ones."""

    def begin(self, codes: Tensor) -> tuple[Tensor, Any]:
        """Return the last logits of a full pass, (b, before + n) codes -> (b, k), and a state to take steps from."""
        ...

    def step(self, code: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Return the logits behind one sample more, (b,) codes -> (b, k), and the state, which may be changed."""
        ...


@dataclass(frozen=True, kw_only=True)
class PublishedFigures:
    """A line of a paper's table: what every task's have, beside the metrics and the protocol, which subclasses add.

    `second_hand` and `inferred` mark fields that were not read in the paper itself, with what they rest on, as those of
    `register` do.
    """

    # the field with the paper's metric, which has the name of that in run.json; and what it is called
    metric: ClassVar[str]
    label: ClassVar[str]

    parameters: float
    source: str
    sample_rate: int
    note: str = ""
    second_hand: Mapping[str, str] = field(default_factory=dict)
    inferred: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        fields = {f.name for f in dataclasses.fields(self)} - {"second_hand", "inferred"}
        _check_marks("published", fields, second_hand=self.second_hand, inferred=self.inferred)


@dataclass(frozen=True, kw_only=True)
class Published(PublishedFigures):
    """A line of a paper's table of tagging: macro mAP on FSD50K's eval split, and how it was obtained."""

    metric = "map"
    label = "mAP"

    map: float
    chunks: str
    aggregation: str
    selection: str


@dataclass(frozen=True, kw_only=True)
class PublishedNextSample(PublishedFigures):
    """A line of a paper's table of next-sample prediction: how often the sample is among the five likeliest codes."""

    metric = "top5"
    label = "top-5"

    top5: float
    context: int  # samples
    coding: str
    data: str


@dataclass(frozen=True)
class Architecture:
    """An entry of the registry."""

    name: str
    family: Family
    config: ArchitectureConfig
    model: type[nn.Module]
    published: PublishedFigures | None = None
    in_all: bool = True
    # whose contract it keeps: what it takes and returns
    task: str = _TAGGING
    # where values come from: config field, or name of a choice that no field sets, to source or reason
    documented: Mapping[str, str] = field(default_factory=dict)
    second_hand: Mapping[str, str] = field(default_factory=dict)
    inferred: Mapping[str, str] = field(default_factory=dict)
    # of one from outside this package, a digest of its text, else ''
    source: str = ""


_architectures: dict[str, Architecture] = {}
# by prefix, a function from what follows it (`timm:NAME`) to that name's entry, which no list shows
zoos: dict[str, Callable[[str], Architecture]] = {}


def later(default: _T) -> _T:
    """Declare a config field that is added after runs were recorded; `default` must mean 'as before'."""
    # `config_values` leaves the field out while it has that value, so a run made before the field existed keeps its
    # hash. If its hash changed, the run would be trained again, though no number of it can differ.
    return field(default=default, metadata={"later": True})


def config_values(config: ArchitectureConfig, variant: ArchitectureConfig | None = None) -> dict[str, Any]:
    """Return a config's fields as a dict, to be recorded and hashed, without `later` fields at their default.

    The values will be put on `variant`, a registered config. Where that has a `later` field at another value than the
    default, the field is kept: left out, it would take the variant's value.
    """
    values = dataclasses.asdict(config)
    for f in dataclasses.fields(config):
        of_variant = getattr(variant, f.name, f.default)
        if f.metadata.get("later") and getattr(config, f.name) == f.default == of_variant:
            del values[f.name]
    return values


def register(
    name: str,
    *,
    family: Family,
    config: ArchitectureConfig,
    published: PublishedFigures | None = None,
    in_all: bool = True,
    task: str = _TAGGING,
    documented: Mapping[str, str] | None = None,
    second_hand: Mapping[str, str] | None = None,
    inferred: Mapping[str, str] | None = None,
    choices: Collection[str] = (),
) -> Callable[[_Model], _Model]:
    """Enter a class into the benchmark under `name`; a class may be entered several times, with other configs.

    Of a published architecture, `documented`, `second_hand` and `inferred` say where each value comes from; a field is
    in one of the three. What cannot be entered is a ConfigError: a name that is taken or can name no folder, an unknown
    family or field, or a field of two kinds.

    Args:
        in_all: whether suites that run all architectures include it: those of its task.
        task: what it is for, which decides what it takes and returns.
        documented: config fields whose values the paper gives, with where.
        second_hand: config fields whose values rest on somebody else's account of the paper, with whose. Tables mark
            the architecture with ‡ and footnote them.
        inferred: config fields that no source documents, with what the chosen value rests on. Tables mark the
            architecture with † and footnote them.
        choices: names for what the code decides and no field sets; the three may name them like fields.
    """
    marks = {"documented": documented or {}, "second_hand": second_hand or {}, "inferred": inferred or {}}

    def enter(model: _Model) -> _Model:
        if not _NAME.fullmatch(name):
            raise ConfigError(f"architecture {name!r}: a name is letters and digits, then also . _ + -, 80 at most")
        # timm:MODEL is called timm-MODEL in suites and folders, where a colon will not do
        zoo = name.partition("-")[0]
        if zoo in zoos:
            raise ConfigError(f"architecture {name!r}: {zoo}- begins the entries of {zoo}:MODEL; choose another name")
        if name in _architectures:
            raise ConfigError(_registered_twice(name, _architectures[name].model, model))
        if isinstance(config, type):
            raise ConfigError(f"{name}: config should be an instance: {config.__name__}()")
        if family not in _FAMILIES:
            raise ConfigError(f"{name}: family {family!r} should be one of {', '.join(_FAMILIES)}")
        fields = {f.name for f in dataclasses.fields(config)}
        if both := fields.intersection(choices):
            raise ConfigError(f"{name}: choices are what no field sets, but the config has {', '.join(sorted(both))}")
        _check_marks(name, fields.union(choices), **marks)
        # a class of ours may come with a config from outside, which then makes it another architecture
        source = source_of(model.__module__) or source_of(type(config).__module__)
        _architectures[name] = Architecture(
            name, family, config, model, published, in_all, task=task, **marks, source=source
        )
        return model

    return enter


def _check_marks(name: str, fields: Collection[str], **marks: Mapping[str, str]) -> None:
    """Raise ConfigError if one of the marks, by kind, is of no field, or if two are of the same one."""
    kinds: dict[str, str] = {}
    for kind, marked in marks.items():
        if unknown := sorted(set(marked) - set(fields)):
            raise ConfigError(f"{name}: {kind} names what is no field: {', '.join(unknown)}")
        if twice := sorted(kinds.keys() & marked.keys()):
            raise ConfigError(f"{name}: {twice[0]} is both {kinds[twice[0]]} and {kind}: leave one of the two out")
        kinds |= dict.fromkeys(marked, kind)


def _registered_twice(name: str, first: type, second: type) -> str:
    """Return why a name is taken, and what to do: two files of users are mostly two states of one."""
    modules = first.__module__, second.__module__
    old, new = map(plugin_root, modules)
    if old is None or new is None or modules[0] == modules[1]:
        return f"architecture {name!r} is registered twice: {' and '.join(modules)}; choose another name"
    if old == new:
        return f"{name!r} was loaded from an earlier text of this file: begin a new process, which reads it anew"
    return f"architecture {name!r} is registered twice: {old} and {new}; load one of the two, or choose another name"


def forget(names: Iterable[str]) -> None:
    for name in names:
        del _architectures[name]


def list_architectures(*, task: str | None = None, in_all_only: bool = False) -> list[str]:
    """Return the names of all architectures, or of those that a task can be run with; `in_all_only`: that suites take.

    By task, tagging first, then by family (cnn, transformer, hybrid), then in the order of registration.
    """
    entries = sorted(
        _architectures.values(),
        key=lambda entry: (entry.task != _TAGGING, entry.task, _FAMILIES.index(entry.family)),
    )
    chosen = [entry for entry in entries if task is None or entry.task == _contract_of(task)]
    return [entry.name for entry in chosen if entry.in_all or not in_all_only]


def _contract_of(task: str) -> str:
    """Return the task whose architectures a task is run with: its own or, where it has none, those of tagging."""
    # a user's task, such as one label a clip, mostly differs from tagging in loss and metrics alone
    return task if any(entry.task == task for entry in _architectures.values()) else _TAGGING


def get_architecture(name: str, source: str | None = None, *, task: str | None = None) -> Architecture:
    """Return the entry of an architecture, or of one of a zoo's models; ConfigError, with the nearest name, if none is.

    A run's record has the `source` (digest of the text) that it must be made of; None accepts any. With a `task`, an
    architecture that this task can't be run with is a ConfigError.
    """
    entry = _entry(name)
    if source not in (None, entry.source):
        raise ConfigError(f"architecture {name!r}: its source is not the one that the run was made with")
    if task is not None and entry.task != _contract_of(task):
        raise ConfigError(f"architecture {name!r} is for task {entry.task}, not {task}: see `bench list`")
    return entry


def _entry(name: str) -> Architecture:
    prefix, colon, rest = name.partition(":")
    if colon and prefix in zoos:
        return zoos[prefix](rest)
    if name not in _architectures:
        near = _did_you_mean(name, _architectures)
        raise ConfigError(f"no architecture {name!r}{near}; `bench list` shows all, --plugin FILE.py adds your own")
    return _architectures[name]


def configure(name: str, **overrides: Any) -> ArchitectureConfig:
    """Return an architecture's config with some fields replaced, all checked; ConfigError says what is impossible.

    A list becomes a tuple where that is the field's type, and a whole number is also a float. Nothing else is taken for
    what it is not: neither true for 1, nor "6" or 6.0 for 6.
    """
    config = get_architecture(name).config
    values = {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}
    for key in overrides:
        if key not in values:
            raise ConfigError(f"{name} has no field {key!r}{_did_you_mean(key, values)}")
    try:
        # By way of JSON, where a tuple is a list, as in TOML: strictness in Python would refuse that, too. Numbers may
        # be numpy's; those that are not finite become strings, which are refused.
        plain = to_json(values | overrides, fallback=lambda value: value.item(), inf_nan_mode="strings")
        return TypeAdapter(type(config)).validate_json(plain, strict=True)
    except (PydanticSerializationError, AttributeError) as error:
        raise ConfigError(
            f"{name}: has a value that no TOML or JSON can hold: {' '.join(str(error).split())}"
        ) from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        what = str(first["msg"]).removeprefix("Value error, ")
        raise ConfigError(f"{name}: {where + ': ' if where else ''}{what}") from None
    # what a config computes of its fields may overflow, or divide by zero
    except Exception as error:
        given = ", ".join(f"{key}={value!r}" for key, value in overrides.items())
        what = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise ConfigError(f"{name}: can't be made with {given}: {what}".removesuffix(": ")) from error


def create(name: str, **overrides: Any) -> nn.Module:
    """Build an architecture, its weights drawn from torch's global generator."""
    return get_architecture(name).model(configure(name, **overrides))


def _did_you_mean(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" (did you mean {near[0]!r}?)" if near else ""

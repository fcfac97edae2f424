"""Who takes part: names mapped to a config, a class and, where there is one, the published row."""

import dataclasses
import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, TypeVar, get_args

from pydantic import TypeAdapter, ValidationError
from torch import nn

from architectures._source import source_of

Family = Literal["cnn", "transformer", "hybrid"]
FAMILIES: tuple[Family, ...] = get_args(Family)
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,79}")  # begins its runs' folders
ModelClass = TypeVar("ModelClass", bound=type[nn.Module])
Zoo: TypeAlias = "Callable[[str], Architecture]"


class ConfigError(ValueError):
    """An unknown architecture, or a field that is unknown or has an impossible value; one line, for the user."""


@dataclass(frozen=True, kw_only=True)
class ArchitectureConfig:
    """What every contestant is told about its data. Subclasses add widths and depths, and check them when made."""

    sample_rate: int = 16_000
    num_classes: int = 200


@dataclass(frozen=True, kw_only=True)
class Published:
    """A row of a paper's table: macro mAP on FSD50K's eval split, and the protocol under which it was obtained."""

    map: float
    parameters: float
    source: str
    sample_rate: int
    chunks: str
    aggregation: str
    selection: str
    note: str = ""


@dataclass(frozen=True)
class Architecture:
    """An entry of the registry."""

    name: str
    family: Family
    config: ArchitectureConfig
    model: type[nn.Module]
    published: Published | None = None
    contestant: bool = True
    inferred: Mapping[str, str] = field(default_factory=dict)
    source: str = ""  # of one from outside this package: a digest of its text

    @property
    def summary(self) -> str:
        """The first line of the class's docstring."""
        return (self.model.__doc__ or "").strip().split("\n")[0]


_architectures: dict[str, Architecture] = {}
_zoos: dict[str, Zoo] = {}


def register(
    name: str,
    *,
    family: Family,
    config: ArchitectureConfig,
    published: Published | None = None,
    contestant: bool = True,
    inferred: Mapping[str, str] | None = None,
) -> Callable[[ModelClass], ModelClass]:
    """Enter a class into the benchmark under `name`; a class may be entered several times, with other configs.

    Args:
        config: an instance; its values are the defaults of this variant.
        contestant: whether suites that run 'all' run it.
        inferred: config fields that no source documents, with what the chosen value rests on. Tables footnote them.

    Raises:
        ConfigError: the name is taken or no name for a folder, the family unknown, `config` a class, or `inferred`
            names a field that the config lacks.
    """

    def enter(model: ModelClass) -> ModelClass:
        _check_name(name, model)
        if isinstance(config, type):
            raise ConfigError(f"{name}: config should be an instance: {config.__name__}()")
        if family not in FAMILIES:
            raise ConfigError(f"{name}: family {family!r} should be one of {', '.join(FAMILIES)}")
        unknown = set(inferred or {}) - field_names(config)
        if unknown:
            raise ConfigError(f"{name}: inferred names fields that the config lacks: {', '.join(sorted(unknown))}")
        source = source_of(model.__module__) or source_of(type(config).__module__)
        _architectures[name] = Architecture(name, family, config, model, published, contestant, inferred or {}, source)
        return model

    return enter


def _check_name(name: str, model: type[nn.Module]) -> None:
    if not NAME.fullmatch(name):
        raise ConfigError(f"architecture {name!r}: a name is letters and digits, then also . _ + -, 80 at most")
    prefix = name.partition("-")[0]
    if prefix in _zoos:
        raise ConfigError(f"architecture {name!r}: {prefix}- begins the rows of {prefix}:MODEL; choose another name")
    if name in _architectures:
        places = f"{_architectures[name].model.__module__} and {model.__module__}"
        raise ConfigError(f"architecture {name!r} is registered twice: {places}; choose another name")


def forget(names: Iterable[str]) -> None:
    """Take registrations back."""
    for name in names:
        del _architectures[name]


def register_zoo(prefix: str) -> Callable[[Zoo], Zoo]:
    """Enter a function from what follows `prefix:` in a name to the entry of that name, which no list shows."""

    def enter(zoo: Zoo) -> Zoo:
        _zoos[prefix] = zoo
        return zoo

    return enter


def list_architectures(*, contestants_only: bool = False) -> list[str]:
    """All names, in the order of registration within each family: cnn, transformer, hybrid."""
    entries = sorted(_architectures.values(), key=lambda entry: FAMILIES.index(entry.family))
    return [entry.name for entry in entries if entry.contestant or not contestants_only]


def get_architecture(name: str, source: str | None = None) -> Architecture:
    """The entry of that name.

    Args:
        source: of the text that it should be made of, as a run's record has it; None asks nothing.

    Raises:
        ConfigError: there is none (with the nearest known name), or only one made of another text.
    """
    prefix, colon, rest = name.partition(":")
    if colon and prefix in _zoos:
        return _zoos[prefix](rest)
    if name not in _architectures:
        near = did_you_mean(name, _architectures)
        raise ConfigError(f"no architecture {name!r}{near}; `bench list` shows all, --with FILE.py adds your own")
    entry = _architectures[name]
    if source not in (None, entry.source):
        raise ConfigError(f"architecture {name!r}: its source is not the one that the run was made with")
    return entry


def configure(name: str, **overrides: Any) -> ArchitectureConfig:
    """The variant's config with some fields replaced, every field's type checked. Raises ConfigError."""
    config = get_architecture(name).config
    for key in overrides:
        if key not in field_names(config):
            raise ConfigError(f"{name} has no field {key!r}{did_you_mean(key, field_names(config))}")
    values = {f.name: getattr(config, f.name) for f in dataclasses.fields(config)} | overrides
    try:
        return TypeAdapter(type(config)).validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        what = str(first["msg"]).removeprefix("Value error, ")
        raise ConfigError(f"{name}: {where + ': ' if where else ''}{what}") from None


def create(name: str, **overrides: Any) -> nn.Module:
    """Build a contestant; weights are drawn from torch's global generator. Raises ConfigError."""
    return get_architecture(name).model(configure(name, **overrides))


def field_names(config: ArchitectureConfig) -> set[str]:
    return {f.name for f in dataclasses.fields(config)}


def did_you_mean(name: str, known: Any) -> str:
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" (did you mean {near[0]!r}?)" if near else ""

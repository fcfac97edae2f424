"""The checks that every architecture must pass: used by the tests and by `bench check`."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from architectures import (
    Codec,
    CodecConfig,
    CodecFittedLast,
    ConfigError,
    NextSampleConfig,
    Stepping,
    config_values,
    configure,
    contained,
    create,
    failure,
    get_architecture,
    pass_on,
    require_dense,
    require_weights,
)

__all__ = ["CHECKS", "CheckFailed", "checks_of", "failed_checks"]

_SECOND = 16_000
# unlike any size in use, so that a forgotten num_classes shows in the shape
_CLASSES = 7
# samples, no power of two, which a stride may like
_WINDOW = 100
_Check = Callable[[str], None]
CHECKS: dict[str, _Check] = {}
# of those that hold for one task alone, by text
_task_of: dict[str, str] = {}


@dataclass(frozen=True)
class _Contract:
    """What a task gives to its architectures, and wants from them."""

    takes: str
    # of a usual input, by the sample rate; and of a longer one, which fills no patch and no frame
    size: Callable[[int], int]
    longer: int
    # waveforms in [-1, 1] -> what is given
    encoded: Callable[[Tensor], Tensor]
    # of b inputs with n outputs each
    logits: Callable[[int, int], tuple[int, ...]]


def _codes(x: Tensor) -> Tensor:
    # louder, for noise that takes all of them
    return ((8 * x).clamp(-1, 1) * (_CLASSES // 2)).round().long() + _CLASSES // 2


def _frames(x: Tensor) -> Tensor:
    # louder in higher bands, so that no two are alike
    return (3 * x).clamp(-1, 1).unsqueeze(2) * torch.linspace(0.5, 1, _CLASSES)


_CONTRACTS = {
    "codec": _Contract(
        takes="frames",
        size=lambda _: _WINDOW,
        longer=3 * _WINDOW + CodecConfig.group,
        encoded=_frames,
        logits=lambda b, n: (b, n, _CLASSES),
    ),
    "tagging": _Contract(
        takes="waveforms",
        size=lambda sample_rate: sample_rate,
        longer=3 * _SECOND + 1,
        encoded=lambda x: x,
        logits=lambda b, _: (b, _CLASSES),
    ),
    "next_sample": _Contract(
        takes="codes",
        size=lambda _: _WINDOW,
        longer=3 * _WINDOW + 1,
        encoded=_codes,
        logits=lambda b, n: (b, n, _CLASSES),
    ),
}
# what predicts codes takes and returns the same, whatever these stand for
_ALIKE = {"next_code": "next_sample"}
_CONTRACTS |= {task: _CONTRACTS[other] for task, other in _ALIKE.items()}


class CheckFailed(AssertionError):
    """A check that failed, with the reason in plain words."""


def checks_of(name: str) -> dict[str, _Check]:
    """Return the checks that hold for an architecture's task, by text. Raises ConfigError for a task without any."""
    task = get_architecture(name).task
    if task not in _CONTRACTS:
        raise ConfigError(f"{name}: there are checks for {', '.join(_CONTRACTS)}, none for task {task}")
    return {text: check for text, check in CHECKS.items() if _task_of.get(text, task) in (task, _ALIKE.get(task))}


def failed_checks(name: str) -> dict[str, str]:
    """Return the text of each check that an architecture fails, with the reason; empty if it passes all."""
    failed = {}
    for text, check in checks_of(name).items():
        try:
            with contained():
                check(name)
        except CheckFailed as error:
            failed[text] = str(error)
        except Exception as error:
            failed[text] = failure(name, error)
            # it does not run: the other checks would only repeat the reason
            if check is _check_shape:
                break
    return failed


def _check(text: str, task: str | None = None) -> Callable[[_Check], _Check]:
    def add(check: _Check) -> _Check:
        CHECKS[text] = check
        if task:
            _task_of[text] = task
        return check

    return add


def _contract(name: str) -> _Contract:
    return _CONTRACTS[get_architecture(name).task]


def _before(name: str, sample_rate: int = _SECOND) -> int:
    """Return how many samples of an input are condition alone."""
    return getattr(configure(name, sample_rate=sample_rate), "condition_samples", 0)


def _model(name: str, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return create(name, num_classes=_CLASSES, sample_rate=_SECOND)


def _noise(name: str, b: int = 3, n: int | None = None, sample_rate: int = _SECOND) -> Tensor:
    contract = _contract(name)
    n = _before(name, sample_rate) + (n or contract.size(sample_rate))
    return contract.encoded(0.1 * torch.randn(b, n, generator=torch.Generator().manual_seed(0)))


def _extremes(name: str) -> Tensor:
    """Return, in this order, silence, a constant, full scale, a click: (4, n)."""
    contract = _contract(name)
    n = contract.size(_SECOND)
    x = torch.zeros(4, _before(name) + n)
    x[1:3] = 1.0
    x[2, ::2] = -1.0
    x[3, -n // 2] = 1.0
    return contract.encoded(x)


def _loss(outputs: Tensor | tuple[Tensor, ...]) -> Tensor:
    logits, *added = outputs if isinstance(outputs, tuple) else (outputs,)
    return nn.functional.binary_cross_entropy_with_logits(logits, torch.ones_like(logits)) + sum(added)


def _logits(model: nn.Module, x: Tensor) -> Tensor:
    """Return what a model makes of x: of several outputs the first."""
    outputs = model(x)
    return outputs[0] if isinstance(outputs, tuple) else outputs


def _trained(name: str, seed: int = 0) -> nn.Module:
    """Return a model after two steps, so that what a step leaves behind is there: moments, running means, whatever."""
    model = _model(name, seed)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3, fused=True)
    for _ in range(2):
        optimizer.zero_grad()
        _loss(model(_noise(name, 2))).backward()
        optimizer.step()
    return model


def _require(condition: bool, text: str) -> None:
    if not condition:
        raise CheckFailed(text)


def _require_logits(name: str, outputs: object, what: str, n: int) -> None:
    logits = _without_loss(outputs, what) if get_architecture(name).task == "codec" else outputs
    _require(isinstance(logits, Tensor), f"{what} a {type(logits).__name__}, should be a tensor of logits")
    assert isinstance(logits, Tensor)
    shape, right = tuple(logits.shape), _contract(name).logits(2, n)
    _require(shape == right, f"{what} {shape}, should be {right}")
    _require(logits.is_floating_point(), f"{what} {str(logits.dtype).removeprefix('torch.')}, should be floats")


def _without_loss(outputs: object, what: str) -> object:
    """Return the frames that a codec gives. Raises CheckFailed if there is no loss () beside them."""
    pair = isinstance(outputs, tuple) and len(outputs) == 2
    _require(pair, f"{what} a {type(outputs).__name__}, should be a tuple of two tensors: frames and a loss")
    assert isinstance(outputs, tuple)
    _require(isinstance(outputs[1], Tensor) and outputs[1].shape == (), "the loss should be a tensor of shape ()")
    return outputs[0]


@_check("takes (b, t, k) frames and returns (b, t, k) frames and a loss ()", "codec")
@_check("takes (b, n) waveforms and returns (b, k) logits", "tagging")
@_check("takes (b, before + n) codes and returns (b, n, k) logits", "next_sample")
def _check_shape(name: str) -> None:
    contract = _contract(name)
    # two rates: a layer sized for 16 kHz alone fails here, not when the pack of another rate is trained on
    for sample_rate in (_SECOND, 22_050):
        model = create(name, num_classes=_CLASSES, sample_rate=sample_rate)
        # before the first step of any check, which would write where it should not
        require_dense(model)
        x, n = _noise(name, 2, sample_rate=sample_rate), contract.size(sample_rate)
        _require_logits(name, model(x), f"{n} samples at {sample_rate} Hz give", n)
    with torch.inference_mode():
        _require_logits(name, model.eval()(x), "eval mode gives", n)


@_check("takes any number of groups of frames", "codec")
@_check("takes clips longer than a second", "tagging")
@_check("takes windows of any length up to its max_context", "next_sample")
def _check_longer(name: str) -> None:
    contract = _contract(name)
    n = min(contract.longer, getattr(configure(name), "max_context", None) or contract.longer)
    _require_logits(name, _model(name)(_noise(name, 2, n)), f"{n} samples give", n)


@_check("keeps its config, a NextSampleConfig that says how far it sees", "next_sample")
def _check_config(name: str) -> None:
    config = getattr(_model(name), "config", None)
    _require(isinstance(config, NextSampleConfig), f"its config is a {type(config).__name__}: begin with that one")
    assert isinstance(config, NextSampleConfig)
    _require(config.receptive_field > 0, f"receptive_field is {config.receptive_field}")


@_check("rebuilds frames from codes, a number of each group and stage", "codec")
def _check_codes(name: str) -> None:
    model, x = _trained(name), _noise(name, 32)
    config = getattr(model, "config", None)
    _require(isinstance(config, CodecConfig), f"its config is a {type(config).__name__}: begin with CodecConfig")
    _require(isinstance(model, Codec), "it has no encode and decode")
    assert isinstance(config, CodecConfig)
    assert isinstance(model, Codec)
    model.eval()
    with torch.inference_mode():
        if isinstance(model, CodecFittedLast):
            model.fit_codebook(model.latents(x).flatten(0, 1), 0)
        codes, right = model.encode(x), (len(x), _WINDOW // config.group, config.stages)
        _require(codes.shape == right, f"codes have shape {tuple(codes.shape)}, should have {right}")
        _require(codes.dtype == torch.int64, f"codes are {codes.dtype}, should be torch.int64")
        low, high = int(codes.min()), int(codes.max())
        _require(low >= 0 and high < config.num_codes, f"codes are {low} to {high}, of num_codes={config.num_codes}")
        _require(low < high, "all codes are the same")
        difference = (model.decode(codes) - _logits(model, x)).abs().max()
    _require(bool(difference < 1e-5), f"forward differs by {difference:.2g} from decode(encode(x)) in eval mode")


@_check("predicts from what came before", "next_sample")
@torch.no_grad()
def _check_causal(name: str) -> None:
    # else it would be given the answer
    model, x = _model(name).eval(), _noise(name)
    changed, half = x.clone(), _WINDOW // 2
    changed[:, -half:] = (changed[:, -half:] + 1) % _CLASSES
    first, second = model(x), model(changed)
    difference = (first - second)[:, :-half].abs().max()
    _require(bool(difference < 1e-5), f"later samples change earlier outputs by {difference:.2g}")
    _require(not torch.equal(first, second), "no output depends on the samples")


@_check("comes to the same step by step", "next_sample")
@torch.no_grad()
def _check_steps(name: str) -> None:
    model, x = _model(name).eval().double(), _noise(name)
    if not isinstance(model, Stepping):
        return
    half = _WINDOW // 2
    logits, state = model.begin(x[:, :-half])
    found = [logits]
    for code in x[:, -half:].T:
        logits, state = model.step(code, state)
        found.append(logits)
    difference = (torch.stack(found, dim=1) - model(x)[:, -half - 1 :]).abs().max()
    _require(bool(difference < 1e-10), f"logits differ by {difference:.2g} from those of a full pass, in float64")


@_check("returns logits, not probabilities")
def _check_logits(name: str) -> None:
    # after the sigmoid, or a softmax, no output is negative, whatever the weights
    outputs = torch.cat([_logits(_model(name, seed).eval(), _noise(name)) for seed in range(4)])
    _require(bool((outputs < 0).any()), "no output is negative: leave out the sigmoid")


@_check("stays finite on silence, full scale, a click and a constant")
def _check_finite(name: str) -> None:
    model, x = _model(name), _extremes(name)
    for training in (False, True):
        logits = _logits(model.train(training), x)
        outputs = logits.flatten(0, -2)
        bad = outputs[~outputs.isfinite().all(dim=1)][:4].tolist()
        _require(not bad, f"{'training' if training else 'eval'} mode gives {bad}")
    # finite logits are not enough: the gradient of a square root or a norm at zero is not
    logits.sum().backward()
    wrong = [n for n, p in model.named_parameters() if p.grad is not None and not p.grad.isfinite().all()]
    _require(not wrong, f"gradients that are not finite: {', '.join(wrong)}")


@_check("gives every parameter a gradient")
def _check_gradients(name: str) -> None:
    model = _model(name)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    # twice: a layer may rightly start at zero, which keeps gradients from those before it
    for _ in range(2):
        optimizer.zero_grad()
        _loss(model(_noise(name))).backward()
        optimizer.step()
    learned = [(n, p) for n, p in model.named_parameters() if p.requires_grad and p.numel()]
    without = [n for n, p in learned if p.grad is None or not p.grad.any()]
    _require(not without, f"no gradient: {', '.join(without)}")


@_check("treats each clip of a batch alone in eval mode")
@torch.no_grad()
def _check_alone(name: str) -> None:
    # else a clip's score would depend on which clips happen to be evaluated with it
    model, x = _model(name).eval(), _noise(name)
    together, alone = _logits(model, x), torch.cat([_logits(model, clip.unsqueeze(0)) for clip in x])
    difference = (together - alone).abs().max()
    _require(torch.allclose(together, alone, atol=1e-4), f"clips differ by up to {difference:.2g}")


@_check("gives the same logits again in eval mode, and changes nothing by it")
def _check_repeats(name: str) -> None:
    # else a score would depend on how many were computed before: dropout that stays on, statistics that go on moving
    model, x = _trained(name).eval(), _noise(name, 2)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with torch.inference_mode():
        first, again = _logits(model, x), _logits(model, x)
    _require(torch.equal(x, _noise(name, 2)), f"the {_contract(name).takes} that it is given are changed")
    difference = (first - again).abs().max()
    _require(torch.allclose(first, again, atol=1e-5), f"logits differ by {difference:.2g} the second time")
    changed = [key for key, value in model.state_dict().items() if not torch.equal(value, before[key])]
    _require(not changed, f"changed by an evaluation: {', '.join(changed)}")


@_check("draws the same weights from the same seed, others from another")
def _check_seed(name: str) -> None:
    models = [_model(name, seed) for seed in (1, 1, 2)]
    first, again, other = (torch.cat([p.detach().flatten() for p in model.parameters()]) for model in models)
    _require(torch.equal(first, again), "the same seed gives other weights: use torch's generator only")
    _require(not torch.equal(first, other), "two seeds give the same weights")


@_check("trains to the same weights from the same seed")
def _check_training(name: str) -> None:
    # a run that was interrupted resumes with torch's generator, and no other's
    first, again = (_trained(name, 1).state_dict() for _ in range(2))
    off = [key for key, value in first.items() if not _is_close(value, again[key])]
    _require(not off, f"another time other weights in {', '.join(off)}: use torch's generator only, and keep no state")


def _is_close(value: torch.Tensor, other: torch.Tensor) -> bool:
    if value.is_floating_point() or value.is_complex():
        return torch.allclose(value, other, atol=1e-6)
    return torch.equal(value, other)


@_check("round-trips its state dict and its config")
def _check_round_trip(name: str) -> None:
    # a run's folder keeps these two, and nothing else to build the model from
    config = configure(name, num_classes=_CLASSES, sample_rate=_SECOND)
    values = config_values(config, get_architecture(name).config)
    _require(configure(name, **values) == config, "configure(**config_values(config)) is another config")
    # what is there from the start, before a step may fail for the same reason
    require_weights(_model(name).state_dict())
    first, second = _trained(name, 1).eval(), _model(name, 2).eval()
    pass_on(first, second)
    with torch.inference_mode():
        _require(
            torch.equal(_logits(first, _noise(name)), _logits(second, _noise(name))),
            "a copy of the weights gives other logits",
        )

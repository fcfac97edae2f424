"""What every contestant must keep: used by the tests and by `bench check`."""

from collections.abc import Callable
from dataclasses import asdict

import torch
from torch import nn

from architectures import configure, create, failure

SECOND = 16_000
CLASSES = 7
Check = Callable[[str], None]
CHECKS: dict[str, Check] = {}


class BrokenPromise(AssertionError):
    """A check that failed, in plain words."""


def promise(text: str) -> Callable[[Check], Check]:
    def add(check: Check) -> Check:
        CHECKS[text] = check
        return check

    return add


def broken_promises(name: str) -> dict[str, str]:
    """Every promise that an architecture breaks, with the reason; empty for a good one."""
    broken = {}
    for text, check in CHECKS.items():
        try:
            check(name)
        except BrokenPromise as error:
            broken[text] = str(error)
        except Exception as error:
            broken[text] = failure(name, error)
            if check is check_shape:  # it does not run: the others would only say so again
                break
    return broken


def _model(name: str, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return create(name, num_classes=CLASSES, sample_rate=SECOND)


def _noise(b: int = 3, n: int = SECOND) -> torch.Tensor:
    return 0.1 * torch.randn(b, n, generator=torch.Generator().manual_seed(0))


def _require(condition: bool, text: str) -> None:
    if not condition:
        raise BrokenPromise(text)


@promise("takes (b, n) waveforms and returns (b, k) logits")
def check_shape(name: str) -> None:
    for sample_rate in (SECOND, 22_050):
        model = create(name, num_classes=CLASSES, sample_rate=sample_rate)
        shape = tuple(model(_noise(2, sample_rate)).shape)
        _require(shape == (2, CLASSES), f"a second at {sample_rate} Hz gives {shape}, should be (2, {CLASSES})")


@promise("takes clips longer than a second")
def check_longer(name: str) -> None:
    shape = tuple(_model(name)(_noise(2, 3 * SECOND + 1)).shape)
    _require(shape == (2, CLASSES), f"3 s give {shape}, should be (2, {CLASSES})")


@promise("returns logits, not probabilities")
def check_logits(name: str) -> None:
    # after the sigmoid, or a softmax, no output is negative, whatever the weights
    outputs = torch.cat([_model(name, seed).eval()(_noise()) for seed in range(4)])
    _require(bool((outputs < 0).any()), "no output is negative: leave out the sigmoid")


@promise("stays finite on silence, full scale, a click and a constant")
def check_finite(name: str) -> None:
    silence, click = torch.zeros(SECOND), torch.zeros(SECOND)
    click[SECOND // 2] = 1.0
    square = torch.ones(SECOND)
    square[::2] = -1.0
    x = torch.stack([silence, torch.ones(SECOND), square, click])
    model = _model(name)
    for training in (False, True):
        logits = model.train(training)(x)
        _require(
            bool(logits.isfinite().all()),
            f"{'training' if training else 'eval'} mode gives {logits.tolist()}",
        )
    logits.sum().backward()
    bad = [n for n, p in model.named_parameters() if p.grad is not None and not p.grad.isfinite().all()]
    _require(not bad, f"gradients that are not finite: {', '.join(bad)}")


@promise("gives every parameter a gradient")
def check_gradients(name: str) -> None:
    model = _model(name)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(2):  # twice: a layer may rightly start at zero, which keeps gradients from those before it
        optimizer.zero_grad()
        nn.functional.binary_cross_entropy_with_logits(model(_noise()), torch.ones(3, CLASSES)).backward()
        optimizer.step()
    without = [n for n, p in model.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    _require(not without, f"no gradient: {', '.join(without)}")


@promise("treats each row of a batch alone in eval mode")
@torch.no_grad()
def check_rows(name: str) -> None:
    model, x = _model(name).eval(), _noise()
    together, alone = model(x), torch.cat([model(row.unsqueeze(0)) for row in x])
    _require(
        torch.allclose(together, alone, atol=1e-4),
        f"rows differ by up to {(together - alone).abs().max():.2g}",
    )


@promise("draws the same weights from the same seed, others from another")
def check_seed(name: str) -> None:
    def weights(seed: int) -> torch.Tensor:
        return torch.cat([p.detach().flatten() for p in _model(name, seed).parameters()])

    _require(torch.equal(weights(1), weights(1)), "the same seed gives other weights: use torch's generator only")
    _require(not torch.equal(weights(1), weights(2)), "two seeds give the same weights")


@promise("round-trips its state dict and its config")
@torch.no_grad()
def check_round_trip(name: str) -> None:
    config = configure(name, num_classes=CLASSES, sample_rate=SECOND)
    _require(configure(name, **asdict(config)) == config, "configure(**asdict(config)) is another config")
    first, second = _model(name, 1).eval(), _model(name, 2)
    second.load_state_dict(first.state_dict())
    _require(torch.equal(first(_noise()), second.eval()(_noise())), "a copy of the weights gives other logits")

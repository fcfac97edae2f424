"""8-bit codes: there and back without loss, in agreement with torchaudio, and the same in numpy and torch."""

import numpy as np
import pytest
import torch
import torchaudio.functional as F

from bench.errors import UserError
from bench.protocol.sounds.coding import CODES, CODINGS, get_coding

SAMPLES = np.arange(-32768, 32768).astype(np.int16)


@pytest.fixture(params=sorted(CODINGS))
def coding(request):
    return get_coding(request.param)


def test_all_codes_come_back(coding):
    codes = np.arange(CODES, dtype=np.uint8)
    assert (coding.encode(coding.decode(codes)) == codes).all()
    tensor = torch.arange(CODES)
    assert torch.equal(coding.encode(coding.decode(tensor)), tensor)


def test_louder_samples_have_no_lower_code_and_every_code_is_used(coding):
    assert (np.diff(coding.encode(SAMPLES).astype(int)) >= 0).all()
    assert set(coding.encode(SAMPLES)) == set(range(CODES))
    assert (np.diff(coding.levels) > 0).all()


def test_tensors_and_arrays_have_the_same_codes(coding):
    clips = np.random.default_rng(0).integers(-32768, 32768, (3, 500)).astype(np.int16)
    codes = coding.encode(torch.from_numpy(clips))
    assert (codes.dtype, codes.shape) == (torch.int64, (3, 500))
    assert (codes.numpy() == coding.encode(clips)).all()
    assert (coding.decode(codes).numpy() == coding.decode(coding.encode(clips))).all()


def test_mu_law_is_torchaudios():
    coding, x = get_coding("mu_law"), torch.from_numpy(SAMPLES / 32768)
    assert torch.equal(coding.encode(torch.from_numpy(SAMPLES)), F.mu_law_encoding(x, CODES))
    decoded = F.mu_law_decoding(torch.arange(CODES), CODES).numpy()
    assert np.abs(coding.levels - decoded).max() <= 1 / 32768


def test_the_linear_coding_is_off_by_half_a_step_at_most():
    coding = get_coding("linear")
    error = np.abs(coding.decode(coding.encode(SAMPLES)).astype(int) - SAMPLES)
    # above the highest code's level there is no other
    assert error[SAMPLES < 127 * 256 + 128].max() == 128
    assert coding.decode(coding.encode(np.zeros(1, np.int16))) == 0


def test_an_unknown_coding_is_a_users_mistake():
    with pytest.raises(UserError, match="coding 'alaw': no such coding; there are mu_law, linear"):
        get_coding("alaw")


def test_floats_are_refused_rather_than_coded_wrongly(coding):
    for samples in np.zeros(3), torch.zeros(3):
        with pytest.raises(TypeError, match="int16"):
            coding.encode(samples)

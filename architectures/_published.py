"""What the two papers say of how their published figures were obtained."""

from functools import partial

from architectures._registry import Published

# Fonseca et al., FSD50K: an open dataset of human-labeled sound events (arXiv:2010.00475)
fsd50k_paper = partial(
    Published,
    source="arXiv:2010.00475; repeated, not rerun, by arXiv:2105.00335v1",
    sample_rate=22_050,
    chunks="1 s, half overlapping, shorter clips repeated",
    aggregation="mean of chunk scores",
    selection="early stop on val PR-AUC",
)

# Verma & Berger, Audio Transformers (arXiv:2105.00335; v1, since the v2 of 2025 is another paper in all but name)
audio_transformers_paper = partial(
    Published,
    source="arXiv:2105.00335v1",
    sample_rate=16_000,
    chunks="1 s",
    aggregation="not documented",
    selection="not documented; '40k train, 10k validation' as spoken suggests that eval was used (inferred)",
)

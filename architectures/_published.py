"""What papers say of how their published figures were obtained."""

from functools import partial

from architectures._registry import Published, PublishedNextSample

_REIMPLEMENTED = "github.com/SarthakYadav/fsd50k-pytorch, a re-implementation of arXiv:2010.00475"

# Fonseca et al., FSD50K: an open dataset of human-labeled sound events (arXiv:2010.00475)
fsd50k_paper = partial(
    Published,
    source="arXiv:2010.00475; repeated, not rerun, by arXiv:2105.00335v1",
    sample_rate=22_050,
    chunks="1 s, half overlapping, shorter clips repeated",
    aggregation="mean of chunk scores",
    selection="early stop on val PR-AUC",
    second_hand={
        "parameters": "what others report of the table in arXiv:2105.00335v1",
        "sample_rate": _REIMPLEMENTED,
        "chunks": _REIMPLEMENTED,
        "aggregation": "github.com/marc1701/fsd_fed, a re-implementation of arXiv:2010.00475",
        "selection": "github.com/marc1701/fsd_fed, a re-implementation of arXiv:2010.00475",
    },
)

# Verma & Berger, Audio Transformers (arXiv:2105.00335; v1, since the v2 of 2025 is another paper in all but name)
audio_transformers_paper = partial(
    Published,
    source="arXiv:2105.00335v1",
    sample_rate=16_000,
    chunks="1 s",
    aggregation="not documented",
    selection="not documented, perhaps on eval",
    second_hand={
        "map": "what others report of the table in arXiv:2105.00335v1",
        "parameters": "what others report of the table in arXiv:2105.00335v1",
    },
    inferred={
        "selection": "https://www.youtube.com/watch?v=wvE2n8u3drA at 38:03 has 40,000 clips for training and 10,000 "
        "for validation, the sizes of dev and eval",
    },
)

# Verma & Chafe, next-sample prediction of piano music (arXiv:2106.16036)
_NEXT_SAMPLE = "what others report of arXiv:2106.16036"
_COMPUTED = "counted in the layers here, which have the depth and the widths that others report of arXiv:2106.16036"
next_sample_paper = partial(
    PublishedNextSample,
    source="arXiv:2106.16036",
    sample_rate=16_000,
    context=1600,
    coding="256 codes; mu-law or linear is not documented",
    data="50 held-out tracks of some 840 piano recordings",
    second_hand=dict.fromkeys(("top5", "sample_rate", "context", "coding", "data"), _NEXT_SAMPLE),
    inferred={"parameters": _COMPUTED},
)

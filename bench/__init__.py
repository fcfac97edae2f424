"""The referee: one data path, one training loop and one evaluator for every contestant."""

import os

# A thread of PyTorch's that waits for another one spins, for seconds if need be: with a second busy process that is
# time taken from the thread that is waited for, and a step takes several times as long. This many turns, then sleep;
# OpenMP reads it when torch is loaded, so it stands here. Whoever sets one of the two knows better.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")

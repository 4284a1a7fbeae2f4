"""Attentive feature augmentation for long-tailed visual recognition."""

import re
import sys
from itertools import pairwise

from ltvr import freed_memory
from ltvr.signals import EndAtOnce
from ltvr.threads import wait_briefly

IS_COMMAND = "".join(sys.argv[:1]).startswith(("-m", "ltvr.")) and any(
    re.match(r"-\w*mltvr\.", a + b) for a, b in pairwise([*sys.orig_argv, ""])
)
"""Whether this is python -m ltvr.NAME, of itself or under python -m cProfile."""

if IS_COMMAND:  # the imports below take seconds
    EndAtOnce(lambda: "stopped; nothing was saved").install()
    wait_briefly()
    freed_memory.keep()

from ltvr.afa.plan import SynthesisPlan
from ltvr.afa.planning import plan_synthesis
from ltvr.decompositions.afa import AFA
from ltvr.networks.network import LTVR
from ltvr.subnormal_numbers import take_for_zero

if IS_COMMAND:  # before torch starts its threads
    take_for_zero()

__version__ = "0.2.0"

__all__ = ["AFA", "LTVR", "SynthesisPlan", "__version__", "plan_synthesis"]

"""What people select samples and problems by, and the orders of a table of problems."""

from typing import Literal, get_args

Disagreement = Literal["overrated", "underrated", "any"]
"""Of verdict and reward: incorrect with S(r) of at least ½, correct with less, or either."""
RIGHT_REWARD = 0.5
"""The minimum step reward from which a reward model says that a response is right; the views say so too."""

PairSide = Literal["chosen", "rejected"]

Change = Literal["learnt", "forgotten", "flipped", "never", "always"]
"""Between the first and the last policy of a measure; a policy solves a problem from a pass rate of ½ on.

`learnt`: not solved, then solved; `forgotten`: the other way; `flipped`: any change on the way; `never`: no
correct sample of any policy; `always`: solved by each.
"""
Sort = Literal[
    "problem", "accuracy", "quality", "pass", "tokens", "reward", "overrated", "underrated", "flips", "pairs"
]
"""`accuracy` is φ_a and `quality` φ_r of the last iteration, `pass` the pass rate of the last policy."""

CHANGES: tuple[Change, ...] = get_args(Change)
SORTS: tuple[Sort, ...] = get_args(Sort)

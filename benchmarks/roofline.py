"""The limit of a case: the least seconds that its counted work takes on this machine.

Work is a number for each of the kinds of operation in limits.c, whose seconds are
measured beside the case. The limit is that of a roofline with one roof more, which is
the chain of operations that wait for each other:

    limit = max(n s for the four of THROUGHPUTS, sum of n s for the three of LATENCIES)

with n operations of s seconds each. What is not counted makes the limit lower and
leaves it a limit: the slopes of tanh, sums of rows, losses, softmax, all of an
optimizer but its bytes and its part in the chain.

Counted for a step, with P parameters, layers of n_in inputs and n_out neurons:

- multiply-adds, for each row: n_in n_out of each layer forward, again to the weights,
  and, but for the first layer, back to its inputs;
- tanh: one for each neuron and row;
- bytes: P numbers of 4 bytes read and written, three times as many with Adam's moments.
  Fewer than 8 MB may lie where they cost nothing and are not counted; from 256 MB on
  they are those of the memory;
- the chain: step t + 1 waits for the first layer's weights of step t. A sum of n
  products waits for D(n) = 1 + ceil(log2 n) operations, none of which is faster than an
  addition. So there are D(n_in) and a tanh for each layer forward, 1 for the loss,
  D(n_out) back through each layer but the first, D(rows) to the weights; with Adam 3
  more, of which one is a root and the division by it.

Nets that are trained together share one chain, since none waits for another.
"""

import itertools
import math
from collections.abc import Mapping, Sequence

THROUGHPUTS = ("multiply-add", "tanh", "byte", "byte-of-memory")
LATENCIES = ("dependent-addition", "dependent-tanh", "dependent-root")

Work = Mapping[str, float]


def limit(work: Work, seconds: Mapping[str, float]) -> float:
    """Return the least seconds for the work; what was not measured takes none."""
    times = {kind: n * seconds.get(kind, 0) for kind, n in work.items()}
    chain = sum(times.get(kind, 0) for kind in LATENCIES)
    return max(chain, *(times.get(kind, 0) for kind in THROUGHPUTS))


def work_of(
    sizes: Sequence[int],
    rows: int,
    *,
    nets: int = 1,
    tanh: bool = True,
    adam: bool = False,
) -> Work:
    """Count what a step of so many nets on so many rows each cannot do without."""
    pairs = list(itertools.pairwise(sizes))
    state = 4 * sum(a * b + b for a, b in pairs) * (3 if adam else 1)
    additions = 1 + depth(rows) + 2 * adam
    additions += sum(depth(a) for a, _ in pairs) + sum(depth(b) for _, b in pairs[1:])
    counted = {
        "multiply-add": nets * rows * row_multiply_adds(sizes),
        "tanh": nets * rows * sum(sizes[1:]) * tanh,
        "byte": 2 * state * (8e6 <= state < 256e6),
        "byte-of-memory": 2 * state * (state >= 256e6),
        "dependent-addition": additions,
        "dependent-tanh": len(pairs) * tanh,
        "dependent-root": int(adam),
    }
    return {kind: n for kind, n in counted.items() if n}


def depth(n: int) -> int:
    """Return how many operations a sum of n products waits for, as a tree."""
    return 1 + math.ceil(math.log2(n))


def row_multiply_adds(sizes: Sequence[int]) -> int:
    """Count those of a step, for one row of the batch."""
    pairs = list(itertools.pairwise(sizes))
    return 3 * sum(a * b for a, b in pairs) - pairs[0][0] * pairs[0][1]


def share(work: Work, units: float) -> Work:
    """Return the work of one of so many equal units."""
    return {kind: n / units for kind, n in work.items()}

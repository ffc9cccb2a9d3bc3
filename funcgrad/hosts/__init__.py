"""Several processes, of one host or of many, that train one net.

JAX moves all data between them. Here is what they must know of each other: that they
run the same program, when to stop, and who writes. Each of them runs the same lines of
Python; what one alone decides by its clock or a signal goes to all with the next chunk
of steps, so that all do the same number of them.
"""

from funcgrad.hosts.agreement import (
    agree,
    exchange,
    first_does,
    from_first,
    gathered,
    is_first,
    together,
)
from funcgrad.hosts.ending import RESUME, leave, lost_in_words
from funcgrad.hosts.joining import join
from funcgrad.hosts.roll_call import LostError
from funcgrad.hosts.span import Preempted, Span, span_of

__all__ = [
    "RESUME",
    "LostError",
    "Preempted",
    "Span",
    "agree",
    "exchange",
    "first_does",
    "from_first",
    "gathered",
    "is_first",
    "join",
    "leave",
    "lost_in_words",
    "span_of",
    "together",
]

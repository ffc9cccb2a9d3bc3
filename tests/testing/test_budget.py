"""The seconds and the memory that a check may take: counted, not timed."""

import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from funcgrad.errors import InputError
from funcgrad.testing import (
    adjoint_bound,
    at_size,
    beside,
    check_gradients,
    culprit,
    lemma,
    size,
    ties,
    verdict,
    walk,
    whole_walk,
)
from funcgrad.testing.budget import Budget, Spent, current, part, within
from funcgrad.testing.compare import truth
from funcgrad.testing.engine import Value
from funcgrad.testing.flint import precision
from funcgrad.testing.numbers.balls import Rounded
from funcgrad.testing.numbers.exact import Exact, data
from funcgrad.testing.numbers.floats import Floats
from funcgrad.testing.numbers.modular import Modular
from funcgrad.testing.numbers.objects import each, objects
from funcgrad.testing.numbers.tape import Tape
from funcgrad.testing.numbers.truth import Truth
from funcgrad.testing.program import trace

X = np.float32(0.5)


def counting(turns):
    """Return a function that turns so often before it says anything."""

    def f(x):
        _, k = lax.while_loop(
            lambda c: c[0] < turns, lambda c: (c[0] + 1, (c[1] * 7 + 3) % 11), (0, 1)
        )
        return x * k

    return f


@pytest.fixture
def entered(monkeypatch):
    """Return the programs that walks have entered, one entry each time."""
    found = []
    for room in (walk, whole_walk):
        enter = room.Walk.enter

        def counted(self, eqn, *rest, enter=enter, **more):
            found.append(eqn.primitive.name)
            return enter(self, eqn, *rest, **more)

        monkeypatch.setattr(room.Walk, "enter", counted)
    return found


def test_a_loop_that_does_not_end_in_time_ends_the_check(entered):
    """Counted: as many turns are made as their price allows, every time the same."""
    before = []
    for _ in range(2):
        with pytest.raises(
            InputError, match=r"needs more than seconds=0\.2: a `while`"
        ):
            check_gradients(counting(10**5), X, seconds=0.2)
        before.append(entered.count("while"))
        entered.clear()
    # A turn enters two programs, of one equation or more each; each kind of number
    # may take half of the seconds.
    turn = size.Work(equations=4)
    most = [0.1 / price.of_a_walk(turn) for price in (size.EXACT, size.FIELDS)]
    assert before[0] == before[1]
    assert 10 < before[0] <= 2 * sum(most)


def test_a_loop_that_ends_in_time_is_proven():
    report = check_gradients(counting(20), X, seconds=0.5)
    assert (report.verdict, report.method) == ("ok", "exact")


def test_a_loop_over_arrays_that_is_long_for_exact_numbers_goes_by_fields():
    def f(x):
        _, k = lax.while_loop(
            lambda c: c[0] < 40,
            lambda c: (c[0] + 1, jnp.cos(c[1])),
            (0, jnp.ones(2000)),
        )
        return x * k.sum()

    report = check_gradients(f, X, seconds=0.8)
    assert (report.verdict, report.method) == ("ok", "identity")


def test_what_one_check_does_draws_on_one_budget():
    program = jax.make_jaxpr(lambda x: jnp.sin(x) * 2)(X)
    with within(1.0):
        for _ in range(3):
            walk.Walk(Exact()).run(program, [Exact().lift(X)])
        three = 1.0 - current().left
    once = size.EXACT.of_a_walk(size.work_in(program))
    assert three == pytest.approx(3 * once, rel=1e-12)  # sums of floats
    assert current().left == np.inf


def test_many_bits_take_more_of_the_budget():
    program = jax.make_jaxpr(lambda x: jnp.sin(x) * 2)(np.ones(100, np.float32))
    taken = []
    for bits in (256, 8192):
        with within(1.0), precision(bits):
            walk.Walk(Exact()).run(program, [Exact().lift(np.ones(100))])
            taken.append(1.0 - current().left)
    assert taken[1] > 10 * taken[0]


def test_a_verdict_is_kept_where_the_search_for_the_culprit_ends_the_budget(
    monkeypatch,
):
    @jax.custom_jvp
    def f(x):
        return x**2

    f.defjvp(lambda x, t: (f(*x), 3 * x[0] * t[0]))
    assert check_gradients(f, X).culprit.startswith("custom_jvp")
    differs = culprit.differs

    def endless(eqn, inputs):
        Budget(1.0, 1.0).spend(2.0)
        return differs(eqn, inputs)

    monkeypatch.setattr(culprit, "differs", endless)
    report = check_gradients(f, X)
    assert report.verdict == "rule"
    assert report.culprit == culprit.NOT_FOUND


@jax.custom_jvp
def doubled(x):
    return jnp.tanh(x)


doubled.defjvp(lambda p, t: (doubled(*p), 2 * (1 - jnp.tanh(p[0]) ** 2) * t[0]))


@pytest.mark.parametrize(
    ("room", "name", "named"),
    [
        (culprit, "by_itself", False),
        (lemma, "judge_rule", False),
        (adjoint_bound, "record", True),
        (beside, "judge", True),
    ],
)
def test_a_wrong_rule_at_size_is_kept_where_what_follows_ends_the_budget(
    monkeypatch, room, name, named
):
    """As endless as it is, what decides has seconds that were kept for it."""

    def endless(*_):
        current().spend(current().left + 1)

    monkeypatch.setattr(room, name, endless)
    x = np.float32([0, 0.5, 1])  # tied in relu
    program = trace(lambda x: doubled(jax.nn.relu(x) + 1), (x,))
    with within(100.0):
        report = at_size.judge(program, given=False)
        assert current().left < 100
    assert report.verdict == "rule"
    assert report.culprit.startswith("custom_jvp") == named
    assert named or report.culprit == culprit.NOT_FOUND


def test_a_part_of_a_budget_leaves_the_rest():
    with within(8.0):
        with pytest.raises(Spent), part(0.25):
            current().spend(1.0)
            current().spend(1.5)
        assert current().left == 5.5
    with part(0.5):
        current().spend(1e9)  # outside of a check there is no limit


@pytest.mark.parametrize(
    "f",
    [
        lambda x: jnp.tanh(x).sum(),
        lambda x: (x / (1 + x * x)).sum(),
        lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (3,), (1,), "SAME").sum(),
        lambda x: lax.scan(
            lambda c, t: (jnp.sin(c + t), c), x[:1000], x.reshape(100, 1000)
        )[0].sum(),
    ],
    ids=["tanh", "quotient", "pooling", "scan"],
)
def test_a_check_in_fields_takes_no_more_memory_than_is_told(f):
    program = trace(f, (np.random.RandomState(0).randn(100_000).astype(np.float32),))
    at_size.judge(program, given=False)  # what is imported and cached stays out
    tracemalloc.start()
    at_size.judge(program, given=False)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    told = size.estimate_in_fields(program.primal, program.bound)[1]
    assert told / 4 < peak < told


def growing(x):
    """Return what a loop makes of numbers that the variable has no part in."""
    _, k = lax.while_loop(
        lambda c: c[0] < 50, lambda c: (c[0] + 1, jnp.cos(c[1])), (0, jnp.ones(100))
    )
    return x * k.sum()


def test_a_loop_whose_tape_takes_too_much_memory_goes_by_fields(monkeypatch):
    assert check_gradients(growing, X).method == "exact"
    monkeypatch.setattr(walk, "MEMORY", 1e6)
    report = check_gradients(growing, X)
    assert (report.verdict, report.method) == ("ok", "identity")


def test_the_tape_of_whole_arrays_is_refused_beyond_its_memory(monkeypatch):
    program = jax.make_jaxpr(growing)(X)
    monkeypatch.setattr(whole_walk, "FIELD_MEMORY", 1e4)
    tape = Tape(errors=True)
    with pytest.raises(Spent, match="GB that it may take: a `while` loop makes more"):
        whole_walk.Walk(tape, whole_walk.Path()).run(program, [tape.lift(X)])


def test_a_program_too_long_to_compile_is_refused_before_its_gradient_is_traced():
    def unrolled(x):
        for _ in range(2500):
            x = lax.sin(x)
        return x

    def rolled(x):
        return lax.fori_loop(0, 2500, lambda i, x: lax.sin(x), x)

    with pytest.raises(InputError, match=r"compiling .* 2,500 equations"):
        check_gradients(unrolled, X, seconds=1)
    size.refuse_to_compile(jax.make_jaxpr(rolled)(X), seconds=1)


class Counted:
    """A number that counts its additions."""

    made = 0

    def __add__(self, other):
        Counted.made += 1
        return self


def test_running_sums_take_one_addition_a_term():
    Exact().running_sum(objects((100,), [Counted()] * 100), np.float32)
    assert Counted.made == 99


def test_running_sums_are_the_sums_of_what_came_before():
    x = np.float32([[1, 1e-4, -1], [3, 5, 1e-8]])
    tape = Truth()
    for kind in (Exact(), Rounded([]), tape):
        terms = kind.lift(x)
        terms = each(Value, terms) if kind is tape else terms
        found = kind.running_sum(terms, np.float32)
        for i in range(3):
            single = kind.add_up(terms[:, : i + 1], np.float32)
            for a, b in zip(found[:, i], single, strict=True):
                a, b = data(a), data(b)
                assert a.mid() == b.mid()
                assert abs(a.rad() - b.rad()) <= b.rad() * 2.0**-20  # as radii are kept
    found[0, 2].backward()
    assert [v.grad for v in terms.ravel()] == [1, 1, 1, 0, 0, 0]


def test_where_ties_are_is_told_without_a_walk_through_what_they_came_from(
    monkeypatch,
):
    met = truth(trace(lambda x: jax.nn.relu(x - x), (X,))).met
    monkeypatch.delattr(Value, "graph")
    assert [place.eqn.primitive.name for place in ties.places(met)] == ["max"]


TABLE = np.arange(1000, dtype=np.float32)


def some(x, table):
    """Return what few numbers of a table give, picked in several ways."""
    a = table[5:9].sum() + table[17] + table.reshape(10, 100)[3, :2].sum()
    return x * (a + jnp.take(table, jnp.array([3, 7])).sum())


def every(x, table):
    return (jnp.tanh(x) * table).sum()


@pytest.mark.parametrize("closed_over", [True, False])
def test_of_what_is_only_picked_from_the_picks_alone_become_numbers(
    monkeypatch, closed_over
):
    lifted = []
    for kind in (Exact, Modular, Floats, Tape):

        def counted(self, native, lift=kind.lift):
            lifted.append(np.size(native))
            return lift(self, native)

        monkeypatch.setattr(kind, "lift", counted)
    table = jnp.asarray(TABLE)
    for f, most in ((some, 4), (every, 1000)):
        g, args = (lambda x, f=f: f(x, table), (X,)) if closed_over else (f, (X, table))
        program = trace(g, args)
        for judge in (verdict.judge, at_size.judge):
            lifted.clear()
            assert judge(program, given=False).verdict == "ok"
            assert max(lifted) == most
        assert size.lifted(program.primal) <= most + 10


def test_a_table_that_is_read_whole_is_refused_before_it_is_lifted(monkeypatch):
    monkeypatch.setattr(size, "MEMORY", 1e5)
    monkeypatch.setattr(size, "FIELD_MEMORY", 1e4)
    table = jnp.asarray(TABLE)
    assert check_gradients(lambda x: x * table[5:9].sum(), X).method == "exact"
    monkeypatch.setattr(jax.stages.Lowered, "compile", None)
    with pytest.raises(InputError, match="even in finite fields"):
        check_gradients(lambda x: every(x, table), X)

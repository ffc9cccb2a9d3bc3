"""The table of what is measured names contenders that exist."""

import pytest

from benchmarks import cases, contenders

PROGRAMS = dict.fromkeys(cases.C_FLAGS, "program")


@pytest.mark.parametrize("quick", [True, False])
def test_every_contender_of_the_table_is_there(quick):
    items = set()
    for case in cases.cases_of(cases.ITEMS, quick, PROGRAMS):
        items.add(case.item)
        assert case.contenders
        for contender in case.contenders.values():
            assert callable(getattr(contenders, contender.function))
            assert contender.kind in ("funcgrad", "other", "limit")
    assert items == set(cases.ITEMS)


def test_growth_has_a_limit_curves_of_known_work_and_compiling_of_known_length():
    peak, *rest = cases.growth_cases(False, {})
    assert [c.kind for c in peak.contenders.values()] == ["limit"]
    for case in rest:
        assert not case.together
        for contender in case.contenders.values():
            known = contender.multiply_adds, contender.steps
            assert sum(figure is not None for figure in known) == 1


def test_whoever_is_of_a_peer_can_run_under_its_interpreter():
    """What the functions are called and which peer they belong to agree."""
    found = set()
    for case in cases.cases_of(cases.ITEMS, True, PROGRAMS):
        for contender in case.contenders.values():
            peers = [peer for peer in cases.PEERS if peer in contender.function]
            assert peers == [contender.peer] * bool(contender.peer)
            found.update(peers)
    assert found == set(cases.PEERS)


def test_multiply_adds_are_counted_by_hand():
    # 3 * 4 + 4 * 1 forward and to the weights, 4 * 1 back to the hidden layer.
    assert cases.row_multiply_adds([3, 4, 1]) == 16 + 16 + 4


def table(quick=False):
    """Return {item: [case, ...]} of the whole table."""
    found = {}
    for case in cases.cases_of(cases.ITEMS, quick, PROGRAMS):
        found.setdefault(case.item, []).append(case)
    return found


@pytest.mark.parametrize("quick", [True, False])
def test_contenders_of_a_case_have_the_same_work(quick):
    """But for the steps, of which slow ones do fewer, and the peaks."""
    own = {"steps", "binary", "threads", "compiled", "fused", "of"}
    found = table(quick)
    for case in (*found["seed"], *found["many"], *found["moons"], *found["wide"]):
        works = {
            tuple(sorted((k, v) for k, v in c.arguments.items() if k not in own))
            for c in case.contenders.values()
            if c.kind != "limit"
        }
        assert len(works) == 1, case.name


def test_names_say_what_is_done():
    found = table()
    (seed,) = found["seed"]
    assert seed.unit == "step"
    compiled = seed.contenders["PyTorch compiled"].arguments
    assert compiled == {**seed.contenders["PyTorch eager"].arguments, "compiled": True}
    assert seed.contenders["funcgrad train"].function == "seed_train"
    assert seed.contenders["funcgrad fit"].function == "seed_fit"
    for case in found["many"]:
        assert case.unit == "net-step"
        for name, contender in case.contenders.items():
            given = contender.arguments
            assert case.name == f"{given['members']} nets"
            if "threads" in given:
                one = name.endswith(", one core")
                assert given["threads"] == (1 if one else cases.cores())
        ours = case.contenders["funcgrad train_many"].arguments
        assert ours["steps"] * ours["members"] == 2**22
    (moons,) = found["moons"]
    assert (moons.unit, moons.name) == ("run", "100 steps, a process")
    for name, contender in moons.contenders.items():
        is_scaled = name == "micrograd, 1 step scaled"
        expected = {"steps": 1, "of": 100} if is_scaled else {"steps": 100}
        assert contender.arguments == expected
    for case in found["wide"]:
        assert case.unit == "row"
        batch = case.contenders["funcgrad fit"].arguments["batch"]
        assert case.name == f"784-512-512-10, Adam, batch {batch}"
        assert case.contenders["PyTorch"].arguments["fused"] is False
        assert case.contenders["PyTorch, fused Adam"].arguments["fused"] is True


def test_the_work_of_a_unit_is_that_of_its_net():
    found = table()
    # Forward and to the weights of all layers, and back through all but the first.
    layers = (784 * 512, 512 * 512, 512 * 10)
    for case in found["wide"]:
        for contender in case.contenders.values():
            is_limit = contender.kind == "limit"
            work = 0.5 if is_limit else 3 * sum(layers) - layers[0]
            assert contender.multiply_adds == work
            assert is_limit == contender.function.startswith("peak")
    counted = {}
    for case in found["growth"]:
        assert case.unit == {
            "limit": "operation", "compiling train": "compile",
            "compiling fit": "compile",
        }.get(case.name, "step")  # fmt: skip
        for name, contender in case.contenders.items():
            counted[case.name, name] = contender.multiply_adds
            given = contender.arguments
            if contender.function == "compiling":
                assert case.name == f"compiling {given['how']}"
                assert contender.steps == given["steps"] and case.rounds == 1
                assert name == f"{given['steps']:,} steps"
            elif contender.function == "growth":
                size = cases.row_multiply_adds(given["sizes"])
                work = size * given["batch"] * given["members"]
                assert contender.multiply_adds == work and given["steps"] >= 8
    # By hand: two layers of 4 x 4, five products of 16 a row; and 3-4-4-1.
    assert counted["width, 32 rows", "4 neurons"] == 5 * 16 * 32
    assert counted["depth of 16s, 32 rows", "8 layers"] == (3 * 8 - 1) * 256 * 32
    assert counted["batch of 16-64-64-1", "128 rows"] == 128 * (
        3 * (16 * 64 + 64 * 64 + 64) - 16 * 64
    )
    assert counted["members of 3-4-4-1, 4 rows", "16 nets"] == 16 * 4 * 84
    assert counted["limit", "peak: JAX matmul"] == 0.5


def test_items_come_in_the_order_of_the_table_and_no_others_do():
    chosen = cases.cases_of(["growth", "seed"], True, {})
    assert list(dict.fromkeys(case.item for case in chosen)) == ["seed", "growth"]

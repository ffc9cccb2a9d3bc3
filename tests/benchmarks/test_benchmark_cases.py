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


def test_items_come_in_the_order_of_the_table_and_no_others_do():
    chosen = cases.cases_of(["growth", "seed"], True, {})
    assert list(dict.fromkeys(case.item for case in chosen)) == ["seed", "growth"]

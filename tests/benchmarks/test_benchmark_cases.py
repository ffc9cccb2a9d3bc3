"""The table of what is measured names contenders that exist."""

import pytest

from benchmarks import cases, contenders, programs, roofline

PROGRAMS = dict.fromkeys(
    ("limits", *programs.RACES, programs.MICROGPT),
    programs.Program("program", "-O3 -march=native"),
)


@pytest.mark.parametrize("quick", [True, False])
def test_every_contender_of_the_table_is_there(quick):
    items = set()
    for case in cases.cases_of(cases.ITEMS, quick, PROGRAMS):
        items.add(case.item)
        assert case.contenders
        for contender in case.contenders.values():
            assert callable(getattr(contenders, contender.function))
            assert contender.kind in ("funcgrad", "C", "other", "limit")
    assert items == set(cases.ITEMS)


def test_growth_has_curves_of_known_work_and_compiling_of_known_length():
    for case in cases.growth_cases(False, {}):
        assert not case.together
        for contender in case.contenders.values():
            known = contender.work, contender.steps
            assert sum(figure is not None for figure in known) == 1


def test_every_kind_of_work_has_a_limit_that_is_measured():
    (case,) = cases.limits_cases(False, PROGRAMS)
    measured = set()
    for contender in case.contenders.values():
        assert contender.kind == "limit"
        ((kind, amount),) = contender.work.items()
        assert amount == 1 and contender.arguments.get("what", kind) == kind
        measured.add(kind)
    assert measured == {*roofline.THROUGHPUTS, *roofline.LATENCIES}


def test_without_a_c_compiler_there_is_no_c_and_the_limit_of_matmul_alone():
    found = list(cases.cases_of(cases.ITEMS, True, {}))
    assert list(found[0].contenders) == ["matmul, JAX"]
    for case in found:
        assert all(contender.kind != "C" for contender in case.contenders.values())


def test_whoever_is_of_a_peer_can_run_under_its_interpreter():
    """What the functions are called and which peer they belong to agree."""
    found = set()
    for case in cases.cases_of(cases.ITEMS, True, PROGRAMS):
        for contender in case.contenders.values():
            peers = [peer for peer in cases.PEERS if peer in contender.function]
            assert peers == [contender.peer] * bool(contender.peer)
            found.update(peers)
    assert found == set(cases.PEERS)


def table(quick=False):
    """Return {item: [case, ...]} of the whole table."""
    found = {}
    for case in cases.cases_of(cases.ITEMS, quick, PROGRAMS):
        found.setdefault(case.item, []).append(case)
    return found


@pytest.mark.parametrize("quick", [True, False])
def test_contenders_of_a_case_have_the_same_work(quick):
    """But for the steps, of which slow ones do fewer, and the peaks."""
    own = {"steps", "program", "threads", "compiled", "fused", "of"}
    found = table(quick)
    *steps, batches = found["small"]
    for case in (
        *found["seed"],
        *steps,
        *found["many"],
        *found["moons"],
        *found["wide"],
    ):
        works = {
            tuple(sorted((k, v) for k, v in c.arguments.items() if k not in own))
            # Those with fixed problems, the seed and moons, have it in their names.
            for c in case.contenders.values()
            if c.kind != "limit" and not c.function.startswith(("seed_", "many_"))
        }
        assert len(works) <= 1, case.name
        counted = [c.work for c in case.contenders.values() if c.kind != "limit"]
        assert all(work == counted[0] for work in counted)
    batch, always = (
        contenders.PROBLEMS[batches.contenders[name].arguments["problem"]]
        for name in ("funcgrad fit", "train, always the same 32")
    )
    assert always == batch._replace(rows=batch.batch, batch=None)


def test_names_say_what_is_done():
    found = table()
    seed, adam = found["seed"]
    compiled = seed.contenders["PyTorch compiled"].arguments
    assert compiled == {**seed.contenders["PyTorch eager"].arguments, "compiled": True}
    moons, small, batches = found["small"]
    for case in (seed, adam, moons, small, batches):
        assert case.unit == "step"
        assert case.contenders["funcgrad train"].function == "step_train"
        assert case.contenders["funcgrad fit"].function == "step_fit"
        problem = contenders.PROBLEMS[
            case.contenders["funcgrad fit"].arguments["problem"]
        ]
        assert case.name.startswith(str([*problem.sizes]))
        assert f"{problem.rows:,} rows" in case.name
        assert case.name.endswith("Adam") == (problem.optimizer == "adam")
        assert problem.batch is None or f" {problem.batch} of " in case.name
        if case.net:
            assert (
                case.net == "-".join(map(str, problem.sizes)) + f", {problem.rows} rows"
            )
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
        assert case.unit == "step"
        batch = case.contenders["funcgrad fit"].arguments["batch"]
        assert case.name == f"784-512-512-10, Adam, batch {batch}"
        assert case.rows == batch and case.net in ("", f"784-512-512-10, {batch} rows")
        assert case.contenders["PyTorch eager"].arguments["fused"] is False
        assert case.contenders["PyTorch, fused Adam"].arguments["fused"] is True


def test_samples_are_of_microgpt_and_steps_of_nanogpt():
    nano, micro, many, *_ = table()["gpt"]
    assert (nano.unit, micro.unit, many.unit) == ("step", "sample", "sample")
    products = 3 * 16 * (12 * 16**2 + 17 * 16 + 27 * 16)  # 16 tokens of a sample
    for case in (micro, many):
        c = [c for c in case.contenders.values() if c.kind == "C"]
        assert [contender.function for contender in c] == ["gpt_c"] * len(c) and c
        for contender in case.contenders.values():
            assert contender.work == {"multiply-add": products}
            assert contender.arguments["batch"] == programs.MICROGPT_BATCH == 16
    without = cases.cases_of(["gpt"], True, {})
    assert all(c.kind != "C" for case in without for c in case.contenders.values())


def test_the_work_of_a_unit_is_that_of_its_net():
    found = table()
    # Forward and to the weights of all layers, and back through all but the first.
    layers = (784 * 512, 512 * 512, 512 * 10)
    for case in found["wide"]:
        for contender in case.contenders.values():
            is_limit = contender.kind == "limit"
            work = 1 if is_limit else case.rows * (3 * sum(layers) - layers[0])
            assert contender.work["multiply-add"] == work
            assert is_limit == contender.function.startswith("peak")
    for case in found["many"]:
        for contender in case.contenders.values():
            members = contender.arguments["members"]
            # The nets' chains run side by side: 9 + 1 + 4 + 3 additions, and 3 tanh.
            assert contender.work == {
                "multiply-add": 4 * 84, "tanh": 4 * 9,
                "dependent-addition": 17 / members, "dependent-tanh": 3 / members,
            }  # fmt: skip
    counted = {}
    for case in found["growth"]:
        compiles = case.name in ("compiling train", "compiling fit")
        assert case.unit == ("compile" if compiles else "step")
        for name, contender in case.contenders.items():
            work = contender.work or {}
            counted[case.name, name] = work.get("multiply-add")
            given = contender.arguments
            if contender.function == "compiling":
                assert case.name == f"compiling {given['how']}"
                assert contender.steps == given["steps"] and case.rounds == 1
                assert name == f"{given['steps']:,} steps"
            elif contender.function == "growth":
                size = roofline.row_multiply_adds(given["sizes"])
                expected = size * given["batch"] * given["members"]
                assert work["multiply-add"] == expected and given["steps"] >= 8
    # By hand: two layers of 4 x 4, five products of 16 a row; and 3-4-4-1.
    assert counted["width, 32 rows", "4 neurons"] == 5 * 16 * 32
    assert counted["depth of 16s, 32 rows", "8 layers"] == (3 * 8 - 1) * 256 * 32
    assert counted["batch of 16-64-64-1", "128 rows"] == 128 * (
        3 * (16 * 64 + 64 * 64 + 64) - 16 * 64
    )
    assert counted["members of 3-4-4-1, 4 rows", "16 nets"] == 16 * 4 * 84


def test_items_come_in_the_order_of_the_table_after_the_limits_and_no_others_do():
    chosen = cases.cases_of(["growth", "seed"], True, {})
    items = list(dict.fromkeys(case.item for case in chosen))
    assert items == ["limits", "seed", "growth"]

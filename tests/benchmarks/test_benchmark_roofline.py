"""The limit of a case, against work that is counted by hand."""

import pytest

from benchmarks.roofline import depth, limit, row_multiply_adds, share, work_of


def test_multiply_adds_are_counted_by_hand():
    # 3 * 4 + 4 * 1 forward and to the weights, 4 * 1 back to the hidden layer.
    assert row_multiply_adds([3, 4, 1]) == 16 + 16 + 4


@pytest.mark.parametrize(("n", "waits"), [(1, 1), (2, 2), (3, 3), (4, 3), (5, 4)])
def test_a_sum_of_products_waits_for_a_product_and_a_tree(n, waits):
    assert depth(n) == waits


def test_the_work_of_the_smallest_net():
    """One neuron of one input, on one row: y = tanh(w x + b)."""
    assert work_of([1, 1], 1) == {
        "multiply-add": 2,  # w x forward, dz x to the weight
        "tanh": 1,
        "dependent-addition": 3,  # w x + b, the loss, the weight
        "dependent-tanh": 1,
    }


def test_the_work_of_two_layers():
    """[3, 2, 1] on 5 rows, without the tanh and with Adam."""
    additions = (
        3 + 2  # forward, sums of 3 and of 2 products
        + 1  # the loss
        + 1  # back through the last layer, a sum of one
        + 4  # a sum over 5 rows
    )  # fmt: skip
    tanh = work_of([3, 2, 1], 5)
    assert tanh == {
        "multiply-add": 5 * (8 + 8 + 2), "tanh": 5 * 3,
        "dependent-addition": additions, "dependent-tanh": 2,
    }  # fmt: skip
    adam = work_of([3, 2, 1], 5, tanh=False, adam=True)
    assert adam == {
        "multiply-add": 90, "dependent-addition": additions + 2, "dependent-root": 1,
    }  # fmt: skip


def test_nets_together_do_more_and_wait_no_longer():
    one, many = work_of([3, 4, 4, 1], 4), work_of([3, 4, 4, 1], 4, nets=10)
    for kind, amount in one.items():
        assert many[kind] == amount * (1 if kind.startswith("dependent") else 10)
    assert share(many, 10)["multiply-add"] == one["multiply-add"]


def test_bytes_are_counted_where_they_do_not_fit_beside_a_core():
    """A layer of n x n has n^2 weights and n biases, of 4 bytes each."""
    assert "byte" not in work_of([1024, 1024], 1)  # 4 MB
    assert work_of([2000, 2000], 1)["byte"] == 2 * 4 * 2000 * 2001
    # Adam's two moments are read and written as the parameters are.
    assert work_of([1024, 1024], 1, adam=True)["byte"] == 3 * 2 * 4 * 1024 * 1025
    huge = work_of([8000, 8000], 1)
    assert huge["byte-of-memory"] == 2 * 4 * 8000 * 8001 and "byte" not in huge


SECONDS = {
    "multiply-add": 1.0, "tanh": 5.0, "byte": 0.5, "byte-of-memory": 2.0,
    "dependent-addition": 3.0, "dependent-tanh": 10.0, "dependent-root": 20.0,
}  # fmt: skip


@pytest.mark.parametrize(
    ("work", "seconds"),
    [
        ({"multiply-add": 7, "tanh": 1, "byte": 2}, 7),
        ({"multiply-add": 7, "tanh": 2}, 10),
        ({"multiply-add": 7, "byte": 16}, 8),
        ({"multiply-add": 7, "byte-of-memory": 5}, 10),
        # What waits for each other adds up.
        ({"multiply-add": 7, "dependent-addition": 1, "dependent-tanh": 1}, 13),
        ({"dependent-addition": 1, "dependent-root": 1, "tanh": 4}, 23),
    ],
)
def test_the_limit_is_the_highest_roof(work, seconds):
    assert limit(work, SECONDS) == seconds


def test_what_was_not_measured_takes_no_time():
    work = {"multiply-add": 7, "dependent-tanh": 100}
    assert limit(work, {"multiply-add": 1.0}) == 7

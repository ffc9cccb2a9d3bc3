"""The words that sentences about bad input share."""

import pytest

from funcgrad.errors import InputError, and_more, did_you_mean, listed


@pytest.mark.parametrize(
    ("count", "said"), [(1, "'0'"), (2, "'0', '1'"), (8, "'6', '7'"), (9, "and 1 more")]
)
def test_eight_names_are_listed_and_the_others_counted(count, said):
    text = listed([str(i) for i in range(count)])
    assert text.endswith(said)
    assert text.count("'") == 2 * min(count, 8)


def test_of_several_cases_one_is_named_and_the_others_counted():
    assert [and_more(n) for n in (1, 2, 5)] == ["", " and 1 more", " and 4 more"]


def test_a_guess_is_made_where_a_name_is_close():
    assert did_you_mean("mons", ["xor", "moons"]) == ": did you mean 'moons'?"
    assert did_you_mean("iris", ["xor", "moons"]) == ""


def test_an_error_begins_with_its_argument():
    error = InputError("must be 1, got 2", "batch_size")
    assert str(error) == "batch_size must be 1, got 2"
    assert (error.sentence, error.argument) == ("must be 1, got 2", "batch_size")
    assert str(InputError("no file")) == "no file"

"""`funcgrad evaluate`: scores, and what it refuses."""

import pytest


@pytest.mark.exhaustive
def test_tables_that_cannot_be_scored(refused, models, tmp_path):
    classes = str(models / "classes/model.safetensors")
    quantity = str(models / "quantity/model.safetensors")
    for model, content, sentence in [
        (classes, "a,b\n1,2\n", "no column 'y'"),
        (
            classes,
            "a,b,y\n1,2,no\n1,2,maybe\n",
            "column 'y' must be one of 'no', 'yes', as in training, got 'maybe'",
        ),
        (quantity, "a,b,y\n1,2,yes\n", "column 'y' must hold numbers, got 'yes'"),
        (quantity, "a,b,y\n1,2,\n", "missing values, 1 in 'y'"),
    ]:
        (tmp_path / "t.csv").write_text(content)
        assert sentence in refused("evaluate", model, "t.csv")

"""The command on real tables: held-out scores, and predictions that are `apply`'s.

The bar for a held-out score is a linear model trained on the same rows: the net must
not be worse by more than two standard errors of the difference, row by row. A net that
learns nothing misses it, as a test shows.
"""

import csv
import io
import json

import jax
import numpy as np
import pytest
from real_tables import real, write
from sklearn.linear_model import LinearRegression, LogisticRegression

import funcgrad as fg
from funcgrad import cli, tasks
from funcgrad.data import Predictor

# Of three classes, of two, of ten with 64 columns, and a quantity.
NAMES = (
    "iris",
    *(
        pytest.param(name, marks=pytest.mark.exhaustive)
        for name in ("breast_cancer", "digits", "diabetes")
    ),
)


@pytest.fixture(scope="module", params=NAMES)
def trained(request, tmp_path_factory):
    """Return (name, table, folder, what the command printed) of a run by default."""
    folder = tmp_path_factory.mktemp(request.param)
    table = real(request.param)
    write(folder / "table.csv", table)
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdout", printed)
        code = cli.main(
            [
                "train",
                str(folder / "table.csv"),
                "--target=target",
                f"--out={folder}/run",
            ]
        )
    assert code == 0
    return request.param, table, folder, printed.getvalue()


def held_out_losses(folder) -> tuple[np.ndarray, np.ndarray]:
    """Return the loss of each held-out row: of the net, and of a linear model.

    0 or 1 for classes, the squared error in standard deviations for a quantity.
    """
    task = tasks.load(folder / "table.csv", "target", seed=1337)
    predictor = Predictor.load(folder / "run/model.safetensors")
    outputs = predictor.outputs(task.x[task.held_out])
    classes = task.target.classes
    linear = LogisticRegression(max_iter=1000) if classes else LinearRegression()
    linear.fit(task.x[~task.held_out], task.y[~task.held_out])
    theirs, y = linear.predict(task.x[task.held_out]), task.y[task.held_out]
    if not classes:
        return (outputs[:, 0] - y) ** 2, (theirs - y) ** 2
    return (task.target.choose(outputs) != y) * 1.0, (theirs != y) * 1.0


def is_worse(ours: np.ndarray, theirs: np.ndarray) -> bool:
    difference = ours - theirs
    return np.mean(difference) > 2 * np.std(difference) / np.sqrt(len(difference))


@pytest.mark.exhaustive
def test_the_held_out_score_is_that_of_a_linear_model_or_better(trained):
    name, table, folder, printed = trained
    ours, theirs = held_out_losses(folder)
    assert abs(len(ours) - len(table.y) / 5) < 1
    assert not is_worse(ours, theirs), (np.mean(ours), np.mean(theirs))
    task = tasks.load(folder / "table.csv", "target", seed=1337)
    if name == "diabetes":
        score = 1 - np.mean(ours) / np.var(task.y[task.held_out].astype(float))
        assert f"held out: R² {score:.3f} on {len(ours)} rows" in printed
    else:
        score = 100 * (1 - np.mean(ours))
        assert f"held out: accuracy {score:.1f} % on {len(ours)} rows" in printed


def test_the_bar_can_be_missed(trained):
    _, _, folder, _ = trained
    _, theirs = held_out_losses(folder)
    task = tasks.load(folder / "table.csv", "target", seed=1337)
    y, known = task.y[task.held_out], task.y[~task.held_out]
    if not task.target.classes:
        guess = (np.mean(known) - y) ** 2
    else:
        guess = (np.argmax(np.bincount(known)) != y) * 1.0
    assert is_worse(guess, theirs)


def test_predict_agrees_with_apply(trained, capsys):
    name, table, folder, _ = trained
    write(folder / "new.csv", table, with_target=False)
    model = folder / "run/model.safetensors"
    assert cli.main(["predict", str(model), str(folder / "new.csv")]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))

    # Rebuilt from the file alone, without the shell's own way of reading it.
    about = json.loads(fg.load_metadata(model)["funcgrad"])
    activation = {"tanh": jax.numpy.tanh}[about["activation"]]
    mlp = fg.mlp(about["sizes"], activation=activation, final_activation=fg.linear)
    like = jax.eval_shape(lambda: mlp.init(jax.random.key(0)))
    columns = about["inputs"]
    place = [table.names.index(column["name"]) for column in columns]
    mean, scale = ([column[k] for column in columns] for k in ("mean", "scale"))
    x = ((table.x[:, place] - mean) / scale).astype(np.float32)
    outputs = np.asarray(mlp.apply(fg.load(model, like), x), np.float64)

    # Both compute in float32, perhaps in another order: a term rounds by half an ulp of
    # numbers of the outputs' size, and what an output is off, its exp is off in parts.
    terms = sum(about["sizes"])
    rounding = terms * np.finfo("f").eps / 2 * np.abs(outputs).max()
    if name == "diabetes":
        expected = about["target"]["mean"] + about["target"]["scale"] * outputs[:, 0]
        found = np.array([float(row["prediction"]) for row in rows])
        scale = about["target"]["scale"]
        assert np.allclose(found, expected, rtol=0, atol=rounding * scale)
        assert "probability" not in rows[0]
        return
    if outputs.shape[1] == 1:
        outputs = np.concatenate([0 * outputs, outputs], axis=1)
    probability = np.exp(outputs) / np.exp(outputs).sum(axis=1, keepdims=True)
    chosen = [about["target"]["values"].index(row["prediction"]) for row in rows]
    found = np.array([float(row["probability"]) for row in rows])
    expected = probability[np.arange(len(x)), chosen]
    # Twice, as an exp is divided by a sum of them; 6e-7 was seen, so never above 1e-4.
    limit = min(2 * rounding, 1e-4)
    assert np.allclose(found, expected, rtol=limit, atol=0)
    assert np.all(found >= probability.max(axis=1) * (1 - limit))


def test_predict_keeps_the_tables_own_columns(trained, tmp_path):
    name, table, folder, _ = trained
    model = str(folder / "run/model.safetensors")
    write(tmp_path / "five.csv", table, slice(0, 5))
    out = tmp_path / "out.csv"
    assert (
        cli.main(["predict", model, str(tmp_path / "five.csv"), "--out", str(out)]) == 0
    )
    before = (tmp_path / "five.csv").read_text().splitlines()
    after = out.read_text().splitlines()
    new = ",prediction" if name == "diabetes" else ",prediction,probability"
    assert after[0] == before[0] + new
    assert len(after) == 6
    assert all(a.startswith(b + ",") for a, b in zip(after, before, strict=True))


def test_evaluate_scores_every_row(trained, capsys):
    name, table, folder, _ = trained
    model = str(folder / "run/model.safetensors")
    assert cli.main(["evaluate", model, str(folder / "table.csv")]) == 0
    printed = capsys.readouterr().out
    cli.main(["predict", model, str(folder / "table.csv")])
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    if name == "diabetes":
        y = np.array(table.y, float)
        error = np.array([float(row["prediction"]) for row in rows]) - y
        score = f"R² {1 - np.mean(error**2) / np.var(y):.3f} on 442 rows, root mean "
        score += f"squared error {np.sqrt(np.mean(error**2)):.4g} (always"
    else:
        right = np.mean([row["prediction"] == row["target"] for row in rows])
        score = f"accuracy {100 * right:.1f} % on {len(rows):,} rows (always"
    assert printed.startswith(score)

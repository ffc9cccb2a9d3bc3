"""What a notebook shows: tables, pictures and progress, in a real kernel of Jupyter's.

One notebook is run once; each test looks at the outputs of a cell of it.
"""

import sys
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest

import funcgrad as fg
from funcgrad.notebook import fit_html, in_notebook, text_html

ROOT = Path(__file__).parents[1]

CELLS = {
    "fit": """
import jax.numpy as jnp
import optax
import funcgrad as fg
data = jnp.array([2.0])
objective = lambda w, x: jnp.sum((w * x - 6) ** 2)
run = fg.fit(objective, optax.sgd(0.125), 1.0, data, steps=20, every=10)
""",
    "run": "run",
    "report": """
from funcgrad.testing import check_gradients
check_gradients(lambda x: x["<b>"] * x["<b>"], {"<b>": 3.0})
""",
    "graph": """
from reference import Value, draw
draw(Value(3.0, label="<b>") * 2)
""",
}


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """Return the outputs of each cell."""
    reason = 'a real notebook needs nbclient and ipykernel: pip install ".[test]"'
    nbclient = pytest.importorskip("nbclient", reason=reason)
    pytest.importorskip("ipykernel", reason=reason)
    nbformat = pytest.importorskip("nbformat", reason=reason)
    folder = tmp_path_factory.mktemp("notebook")
    notebook = nbformat.v4.new_notebook()
    notebook.cells = [nbformat.v4.new_code_cell(text) for text in CELLS.values()]
    with pytest.MonkeyPatch.context() as patch:
        # Nothing of Jupyter's or IPython's is read or written at home.
        for name in ("JUPYTER_DATA_DIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR"):
            patch.setenv(name, str(folder / name))
        patch.setenv("IPYTHONDIR", str(folder / "ipython"))
        patch.setenv("PYTHONPATH", str(ROOT))
        nbclient.NotebookClient(
            notebook, timeout=120, resources={"metadata": {"path": str(folder)}}
        ).execute()
    return dict(zip(CELLS, (cell.outputs for cell in notebook.cells), strict=True))


def shown(outputs, cell):
    """Return {kind: content} of what a cell's last line is shown as."""
    (output,) = outputs[cell]
    assert output.output_type == "execute_result"
    return output.data


def test_progress_is_one_line_written_over(outputs):
    assert {output.name for output in outputs["fit"]} == {"stderr"}
    text = "".join(output.text for output in outputs["fit"])
    assert text.startswith("\r") and text.endswith("\n")
    assert "\n" not in text[:-1] and "\x1b" not in text
    first, *_, last = text[1:-1].split("\r")
    assert first.startswith("step 10/20  loss 0  ")
    assert last.startswith("step 20/20  loss 0  ")
    assert len(first) == len(last)  # so that nothing of a longer one stays


def test_a_fit_is_a_table(outputs):
    assert rows(shown(outputs, "run")["text/html"]) == [
        ("steps done", "20"),
        ("last loss", "0"),
        ("lowest loss", "0 at step 1"),
        ("parameters", "1"),
    ]


def test_a_report_is_its_text(outputs):
    page = ElementTree.fromstring(shown(outputs, "report")["text/html"])
    assert page.tag == "pre" and len(page) == 0
    text = "".join(page.itertext())
    assert text.startswith("gradient: ok (") and "['<b>']  scalar  float32" in text


def test_a_graph_is_a_picture_and_still_its_text(outputs):
    data = shown(outputs, "graph")
    picture = data["image/svg+xml"]
    assert data["text/plain"] == repr(picture)
    words = [e.text for e in ElementTree.fromstring(picture).iter() if e.text]
    assert "A graph of 3 values" in words and "<b>" in words


def rows(html):
    """Return the cells of each row of a table."""
    table = ElementTree.fromstring(html)
    assert table.tag == "table"
    return [tuple(cell.text for cell in row) for row in table]


def test_each_metric_has_a_row():
    looks = {"step": np.array([1001]), "validation_<accuracy>": np.array([0.5, 0.75])}
    history = fg.History(np.arange(1000, 1003), np.array([3.0, 0.25, 1e6]), looks)
    layers = (fg.Layer(np.zeros((30, 40)), np.zeros(40)),)
    state = fg.State(layers, None, np.int32(1003))
    assert rows(fit_html(state, history)) == [
        ("steps done", "1,003"),
        ("last loss", "1e+06"),
        ("lowest loss", "0.25 at step 1,001"),
        ("parameters", "1,240"),
        ("last validation <accuracy>", "0.75"),
    ]


def test_a_fit_of_no_steps_has_no_lowest_loss():
    nothing = fg.History(np.arange(0), np.zeros(0), {})
    found = rows(fit_html(fg.State(1.0, None, np.int32(0)), nothing))
    assert found == [("steps done", "0"), ("last loss", "none"), ("parameters", "1")]


def test_text_is_never_taken_for_html():
    page = ElementTree.fromstring(text_html("a <b> & c\n"))
    assert page.text == "a <b> & c\n"


@pytest.mark.parametrize(
    ("shell", "expected"),
    [
        (None, False),  # a script that imported IPython
        (SimpleNamespace(), False),  # IPython in a terminal
        (SimpleNamespace(kernel="one"), True),
    ],
)
def test_a_notebook_is_where_ipython_has_a_kernel(shell, expected, monkeypatch):
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert not in_notebook()
    ipython = SimpleNamespace(get_ipython=lambda: shell)
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    assert in_notebook() == expected

"""The memory of training a GPT: what is counted, and that it is drawn."""

import jax
import pytest

from benchmarks import gpt_memory
from benchmarks.gpt_memory import Point

TINY = Point(width=8, layers=1, context=4, batch=2, steps=2)


def test_the_limit_by_hand():
    block = 12 * 8**2 + 2 * 8
    parameters = (65 + 4 + 1) * 8 + block
    kept = 14 * 8 + 4 * 4 + 8 + 65  # of a token: a block, x, the logits
    assert gpt_memory.limit(TINY) == 4 * (4 * parameters + 2 * 4 * kept)


@pytest.mark.exhaustive
def test_steps_take_no_more_than_their_losses_and_width_does():
    few = gpt_memory.used(TINY)
    many = gpt_memory.used(TINY._replace(steps=1000))
    # A float32 for each loss, of which a copy may be on its way out.
    assert 0 <= many - few <= 2 * 4 * 1000
    shapes = jax.eval_shape(gpt_memory.model_of(TINY).init, jax.random.key(0))
    parameters = sum(leaf.size for leaf in jax.tree.leaves(shapes))
    assert few > 3 * 4 * parameters  # they, and two moments, come in


def test_the_picture_is_written(tmp_path, monkeypatch, capsys):
    curves = {"width": [TINY], "steps": [TINY]}
    monkeypatch.setattr(gpt_memory, "CURVES", curves)
    monkeypatch.setattr(gpt_memory, "used", lambda point: 2 * gpt_memory.limit(point))
    gpt_memory.main(["--out", str(tmp_path)])
    assert "width      8:" in capsys.readouterr().out
    assert (tmp_path / "gpt-memory.png").read_bytes().startswith(b"\x89PNG")

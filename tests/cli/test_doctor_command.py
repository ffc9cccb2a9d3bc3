"""`funcgrad doctor`: what it says of a healthy device and of a sick one."""

import jax

from funcgrad import cli


def test_doctor_tells_a_healthy_device_from_a_sick_one(capsys, monkeypatch):
    from funcgrad.testing import doctor

    fine, sick = (
        doctor.Finding("sums", "ok"),
        doctor.Finding(
            "products", "compiler", "3 of 4 numbers are wrong", "choose another version"
        ),
    )
    monkeypatch.setattr(doctor, "examine", lambda: iter([fine, fine]))
    assert cli.main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert f"jax: {jax.__version__}" in lines
    assert lines[-1].startswith("all 2 checks passed")

    monkeypatch.setattr(doctor, "examine", lambda: iter([fine, sick]))
    assert cli.main(["doctor"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[-4:] == [
        "COMPILER  products",
        "3 of 4 numbers are wrong",
        "1 of 2 checks failed; what to do:",
        "- choose another version",
    ]

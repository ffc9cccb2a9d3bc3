"""Programs that stand for a Python interpreter, as `--python` takes them."""

import shlex
import sys


def script(path, *lines):
    """Write a shell script, and return its path."""
    path.write_text("\n".join(("#!/bin/sh", *lines, "")))
    path.chmod(0o755)
    return str(path)


def python_where(path, *statements):
    """Return this interpreter, which runs these statements before its program."""
    code = "; ".join((
        "import runpy, sys", *statements, "sys.argv = sys.argv[1:]",
        "runpy.run_path(sys.argv[0], run_name='__main__')",
    ))  # fmt: skip
    return script(path, f'exec {sys.executable} -c {shlex.quote(code)} "$@"')


def python_without(path, *modules):
    """Return this interpreter, where these modules are not to be found."""
    return python_where(path, f"sys.modules.update(dict.fromkeys({modules!r}))")

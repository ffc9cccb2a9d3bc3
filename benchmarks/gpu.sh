#!/bin/sh
# What a GPU says of funcgrad: exact numbers, the tests marked gpu, and one table of
# times beside the CPU. Five minutes, no network; run it in a clone with
# `pip install -e ".[test,cuda13]"` done. `--quick` makes the table tiny.
set -u
cd "$(dirname "$0")/.." || exit 1
python=${PYTHON:-python}
export XLA_FLAGS="${XLA_FLAGS:-} --xla_gpu_deterministic_ops=true"

"$python" -m funcgrad doctor
exact=$?
"$python" -m pytest -q -n 0 -m gpu -rs tests
tests=$?
unset XLA_FLAGS  # which would slow the table down
"$python" -m benchmarks.gpu "$@"
table=$?
echo "doctor $exact, tests $tests, table $table (0: fine)"
[ "$exact$tests$table" = 000 ]

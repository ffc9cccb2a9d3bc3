"""A process of several: `worker.py PORT PROCESSES PROCESS FOLDER`, by test_devices.py.

It does what `integer_run` has on all devices of all processes, and writes what it got.
"""

# ruff: noqa: E402  (JAX has to be told of the others before anything computes)
import pickle
import sys
from pathlib import Path

import jax

port, processes, process, folder = *map(int, sys.argv[1:4]), Path(sys.argv[4])
if processes > 1:
    jax.distributed.initialize(f"localhost:{port}", processes, process)

import integer_run
import numpy as np

import funcgrad as fg
from funcgrad.devices import own_rows
from funcgrad.run_identity import identity

mesh = fg.data_mesh()
found = {"devices": [device.process_index for device in mesh.devices.flat]}
for rows in (40, 37):
    all_rows = jax.tree.map(lambda leaf: leaf[:rows], integer_run.DATA)  # noqa: B023
    own = own_rows(mesh, all_rows)
    for batch_size in (None, 16) if rows == 37 else (16,):
        found[f"fit {rows} {batch_size}"] = integer_run.fit(mesh, own, batch_size)
    placed = fg.rows(mesh, own)
    found[f"counts {rows}"] = placed.counts
    state = fg.init_state(integer_run.MODEL.init(integer_run.KEY), integer_run.SIGNS)
    found[f"identity {rows}"] = identity(
        integer_run.OBJECTIVE, integer_run.SIGNS, fg.replicate(mesh, state), placed, 16,
        integer_run.KEY,
    )  # fmt: skip
found["fit drawn"] = integer_run.fit(
    mesh, integer_run.DRAWN, None, every=4, validation=integer_run.DATA
)
found["many"] = integer_run.train_many(mesh)
sharded = fg.shard(mesh, np.arange(65536.0).reshape(4, -1))
found["sharded"] = [shard.data.shape for shard in sharded.addressable_shards]
found = jax.tree.map(
    lambda leaf: np.asarray(leaf) if isinstance(leaf, jax.Array) else leaf, found
)
(folder / f"{processes}-{process}").write_bytes(pickle.dumps(found))

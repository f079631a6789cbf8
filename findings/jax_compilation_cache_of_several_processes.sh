#!/usr/bin/env bash
# jax 0.10.2, several processes on CPUs: the persistent compilation cache serves
# the first process alone.
#
# Seen: two processes of one run (jax.distributed.initialize) compile one
# program over both their devices with jax_compilation_cache_dir set to a folder
# that both can write. The second run of the same program hits in process 0 and
# misses in process 1, and a third run as well: the key of an entry differs
# between the processes, and only process 0 writes entries. One would expect
# that a second start of a run compiles nothing in any of its processes.
#
# For us: a run of several processes on CPUs compiles at every start, whatever
# the folder; docs/scaling.md says so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet jax==0.10.2 jaxlib==0.10.2
cat > "$folder/run.py" <<'P'
import sys

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

index, port, cache = int(sys.argv[1]), sys.argv[2], sys.argv[3]
jax.config.update("jax_compilation_cache_dir", cache)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
jax.distributed.initialize(f"localhost:{port}", 2, index)
events = []
jax.monitoring.register_event_listener(lambda name, **_: events.append(name))
mesh = jax.make_mesh((2,), ("x",))
rows = NamedSharding(mesh, PartitionSpec("x"))
local = np.ones((4, 3), np.float32)
x = jax.make_array_from_process_local_data(rows, local)
program = jax.jit(lambda x: jnp.sum(jnp.tanh(x) @ jnp.ones((3, 2))))
events.clear()
print("value", float(program(x)), file=sys.stderr)
hits = sum(name.endswith("compilation_cache/cache_hits") for name in events)
print(f"process {index}: {'hit' if hits else 'miss'}")
P
for run in 1 2 3; do
  port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("", 0))
print(s.getsockname()[1])')
  for index in 0 1; do
    JAX_PLATFORMS=cpu "$folder/venv/bin/python" "$folder/run.py" "$index" \
      "$port" "$folder/cache" > "$folder/$run.$index" 2> "$folder/log.$index" &
  done
  wait
  echo "run $run: $(grep -h "^process" "$folder/$run".[01] | paste -sd, -)"
done | tee "$folder/out"
grep -q '^run 1: process 0: miss,process 1: miss$' "$folder/out"
grep -q '^run 2: process 0: hit,process 1: miss$' "$folder/out"
grep -q '^run 3: process 0: hit,process 1: miss$' "$folder/out"
echo "as stated"

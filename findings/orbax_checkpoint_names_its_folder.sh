#!/usr/bin/env bash
# orbax-checkpoint 0.12.8 (jax 0.10.2): a checkpoint holds the absolute path of
# the folder in which it was written.
#
# Seen: CheckpointManager.save on a local disk leaves commit_success.txt in the
# step's folder and in each item's folder; both hold the absolute path of that
# folder when it was written. One would expect that a checkpoint says nothing of
# where it was made, and that the marker is for object stores alone. Moved
# elsewhere it restores all the same.
#
# For us: who gives a checkpoint away gives a path with it (user names are often
# in it); docs/workdir.md says so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet orbax-checkpoint==0.12.8 jax==0.10.2 \
  jaxlib==0.10.2
cat > "$folder/save.py" <<'P'
import pathlib
import sys

import numpy as np
import orbax.checkpoint as ocp

first, second = (pathlib.Path(word) for word in sys.argv[1:])
value = {"w": np.arange(3.0)}
with ocp.CheckpointManager(first) as manager:
  manager.save(1, args=ocp.args.StandardSave(value))
first.rename(second)
for path in sorted(second.rglob("*.txt")):
  print(path.relative_to(second), str(first) in path.read_text())
with ocp.CheckpointManager(second) as manager:
  print("restored", manager.restore(1, args=ocp.args.StandardRestore(value))["w"])
P
out=$(JAX_PLATFORMS=cpu "$folder/venv/bin/python" "$folder/save.py" \
  "$folder/first" "$folder/second" 2>/dev/null)
echo "$out"
grep -q '^1/commit_success.txt True$' <<< "$out"
grep -q '^1/default/commit_success.txt True$' <<< "$out"
grep -q '^restored \[0. 1. 2.\]$' <<< "$out"
echo "as stated"

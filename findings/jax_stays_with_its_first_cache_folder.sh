#!/usr/bin/env bash
# jax 0.10.2: a process stays with the first folder of its compilation cache,
# and with the cache itself once it was on.
#
# Seen: after a program was written into one folder, jax_compilation_cache_dir
# is set to another folder, and later to None. The programs compiled then go
# into the first folder all the same, in both cases; the second stays empty.
# One would expect the option, which is read and set at any time without an
# error, to be heeded. `reset_cache` of jax.experimental.compilation_cache makes
# it so.
#
# For us: `devices/compilation.py` (`kept`), which keeps the programs of a suite
# in a folder that is removed at its end, resets the cache whenever it changes
# the folder.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet jax==0.10.2 jaxlib==0.10.2
cat > "$folder/run.py" <<'P'
import pathlib
import sys

import jax
from jax.experimental.compilation_cache import compilation_cache

root = pathlib.Path(sys.argv[1])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def compiled(value, folder, reset=False):
  """Entries in both folders after one more program."""
  jax.config.update("jax_compilation_cache_dir", folder and str(root / folder))
  if reset:
    compilation_cache.reset_cache()
  jax.jit(lambda x: x + value)(1.0)
  return tuple(len(list(root.glob(f"{name}/*-cache"))) for name in "ab")


print("a", compiled(1, "a"))
print("b", compiled(2, "b"))
print("None", compiled(3, None))
print("b, reset", compiled(4, "b", reset=True))
print("None, reset", compiled(5, None, reset=True))
P
JAX_PLATFORMS=cpu "$folder/venv/bin/python" "$folder/run.py" "$folder" |
  tee "$folder/out"
diff "$folder/out" - <<'P'
a (1, 0)
b (2, 0)
None (3, 0)
b, reset (3, 1)
None, reset (3, 1)
P
echo "as stated"

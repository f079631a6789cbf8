#!/usr/bin/env bash
# jax 0.10.2: calling an exported program imports SciPy's linear algebra,
# whatever the program computes.
#
# Seen: a function that adds 1 is exported for a CPU, and read back in a fresh
# process. Up to there no module of SciPy is loaded, as with any other use of
# `jax.jit`; lowering the call loads `scipy.linalg` and more than a hundred
# modules with it: a tenth of a second and more of CPU, most of what the call
# costs. One would expect LAPACK to be looked for by programs that use it, as it
# is when a function is traced.
#
# For us: a start with an exported program (`evaluation/programs.py`) has SciPy
# among its modules although nothing of ours asks for it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet jax==0.10.2 jaxlib==0.10.2 \
  scipy==1.16.3 flatbuffers==25.12.19
cat > "$folder/write.py" <<'P'
import pathlib
import sys

import jax
from jax import export

spec = jax.ShapeDtypeStruct((3,), "float32")
data = export.export(jax.jit(lambda x: x + 1))(spec).serialize()
pathlib.Path(sys.argv[1]).write_bytes(data)
P
cat > "$folder/read.py" <<'P'
import pathlib
import sys

import jax
from jax import export


def told(what):
  names = [n for n in sys.modules if n.partition(".")[0] == "scipy"]
  some = "scipy.linalg" in names
  print(what, "scipy.linalg" if some else "no scipy.linalg", len(names) > 100)


spec = jax.ShapeDtypeStruct((3,), "float32")
jax.jit(lambda x: x + 1).lower(spec).compile()
told("traced:")
program = export.deserialize(bytearray(pathlib.Path(sys.argv[1]).read_bytes()))
told("read:")
jax.jit(program.call).lower(spec)
told("lowered:")
P
export JAX_PLATFORMS=cpu
"$folder/venv/bin/python" "$folder/write.py" "$folder/program"
"$folder/venv/bin/python" "$folder/read.py" "$folder/program" |
  tee "$folder/out"
diff "$folder/out" - <<'P'
traced: no scipy.linalg False
read: no scipy.linalg False
lowered: scipy.linalg True
P
echo "as stated"

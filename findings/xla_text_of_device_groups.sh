#!/usr/bin/env bash
# jax 0.10.2, text of a compiled program: one release writes the groups of
# devices of its collectives in four forms.
#
# Seen with `compiled.as_text()` on 8 virtual CPU devices in a mesh of data 2 x
# expert 4, for programs that only move an array from one sharding to another:
# a product of axes, `replica_groups=[4,2]<=[2,4]T(1,0)`; mesh axes,
# `replica_groups=mesh['axis_0'=1,'axis_1'=8] {'axis_1'}`, with axes that are
# numbered and not those of the mesh that the program was written for, sometimes
# with `, device_ids=(...)` between the mesh and the axes; and a part of an axis,
# `{'axis_0':(2)2}`, whose group has 2 devices although the axis has 4. A
# `jax.lax.psum` within shard_map writes the lists that all older texts have,
# `{{0,1,2,3},{4,5,6,7}}`. One would expect one form a release.
#
# For us: a forecast took all devices for a group whose form it did not know.
# planning/collectives.py reads all forms and refuses others.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet jax==0.10.2 jaxlib==0.10.2
cat > "$folder/run.py" <<'P'
import os
import re

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"
os.environ["JAX_PLATFORMS"] = "cpu"
import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

mesh = jax.make_mesh(
  (2, 4), ("data", "expert"), axis_types=(AxisType.Auto,) * 2
)
aval = jax.ShapeDtypeStruct((16, 8), jnp.float32)
GROUPS = re.compile(
  r"replica_groups=(.*?)(?:, (?:use_global|dimensions|to_apply|metadata)|$)"
)


def groups(program):
  text = program.lower(aval).compile().as_text()
  return [match[1] for match in map(GROUPS.search, text.splitlines()) if match]


def moved(source, target):
  return groups(
    jax.jit(
      lambda x: x + 1,
      in_shardings=NamedSharding(mesh, source),
      out_shardings=NamedSharding(mesh, target),
    )
  )


found = {
  "product": moved(P(("data", "expert")), P("expert")),
  "axes": moved(P(("data", "expert"), None), P(None, ("expert", "data"))),
  "part": moved(P("data", "expert"), P("expert", "data")),
  "list": groups(
    jax.jit(
      jax.shard_map(
        lambda x: jax.lax.psum(x, "expert"),
        mesh=mesh,
        in_specs=P(("data", "expert")),
        out_specs=P("data"),
        check_vma=False,
      )
    )
  ),
}
print(jax.__version__, found)
assert found["product"] == ["[4,2]<=[2,4]T(1,0)"]
assert found["axes"] == ["mesh['axis_0'=1,'axis_1'=8] {'axis_1'}"]
assert found["part"] == [
  "mesh['axis_0'=4,'axis_1'=2], device_ids=([2,2,2]T(0,2,1)) {'axis_0':(2)2}"
]
assert found["list"] == ["{{0,1,2,3},{4,5,6,7}}"]
print("as described")
P
"$folder/venv/bin/python" "$folder/run.py"

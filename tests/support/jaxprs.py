"""What a traced program consists of."""

import jax


def all_eqns(jaxpr):
  for eqn in jaxpr.eqns:
    yield eqn
    for inner in jax.tree.leaves(
      list(eqn.params.values()),
      is_leaf=lambda p: hasattr(p, "eqns") or hasattr(p, "jaxpr"),
    ):
      if hasattr(inner, "jaxpr"):
        inner = inner.jaxpr
      if hasattr(inner, "eqns"):
        yield from all_eqns(inner)

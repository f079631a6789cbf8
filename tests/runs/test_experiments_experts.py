"""What experts learn: nulls, similarity, matching, removal, a whole study."""

import functools
import itertools
import json
import math

import flax.linen as nn
import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtlmoe_jax import config as config_lib
from mtlmoe_jax import data as data_lib
from mtlmoe_jax import errors, models
from mtlmoe_jax.checkpoints import restore
from mtlmoe_jax.evaluation import evaluate
from mtlmoe_jax.experiments import expert_outputs, removal, study
from mtlmoe_jax.metrics import cka, matching
from mtlmoe_jax.metrics import permutation as null
from mtlmoe_jax.metrics import split as metrics_lib
from mtlmoe_jax.models import gates
from mtlmoe_jax.training import loop
from mtlmoe_jax.utils import files
from tests.support import tiny
from tests.support.models import filled, shapes_of


def one_hot(experts, count):
  return np.eye(count)[np.asarray(experts)]


def naive_bits(weights, groups):
  """Sum of p log2(p / (p p)) with loops."""
  joint = {}
  for row, group in zip(weights, groups):
    for expert, weight in enumerate(row):
      key = (expert, int(group))
      joint[key] = joint.get(key, 0) + weight / sum(row) / len(groups)
  bits = 0.0
  for (expert, group), p in joint.items():
    of_expert = sum(q for (e, _), q in joint.items() if e == expert)
    of_group = sum(q for (_, g), q in joint.items() if g == group)
    if p > 0:
      bits += p * math.log2(p / (of_expert * of_group))
  return bits


def test_where_a_figure_stands():
  found = null.permutation_test(3.0, np.array([1.0, 2.0, 3.0, 4.0]))
  assert found["null_mean"] == 2.5
  assert found["null_high"] == pytest.approx(3.85)
  assert found["p"] == 3 / 5  # 3 and 4, and the data, of 5
  assert null.permutation_test(9.0, np.zeros(199))["p"] == 1 / 200


def test_information_equals_loops():
  random = np.random.default_rng(0)
  weights, groups = random.random((30, 4)), random.integers(0, 3, 30)
  found = null.information(weights, groups, 5)
  assert found["bits"] == pytest.approx(naive_bits(weights, groups))
  nats, mean = metrics_lib.mutual_information(weights, groups, 5)
  assert found["bits"] == pytest.approx(nats / math.log(2))
  assert found["null_mean"] == pytest.approx(mean / math.log(2))


def test_perfect_dependence_gives_the_entropy():
  groups = np.repeat([0, 3, 5, 9], 25)
  found = null.information(one_hot(groups, 10), groups)
  assert found["bits"] == pytest.approx(2)
  assert found["p"] == 1 / 201
  assert 0 < found["null_mean"] < found["null_high"] < 0.4
  assert found["share"] == pytest.approx((2 - found["null_mean"]) / 2)


def test_independent_choices_are_as_chance_has_them():
  """p is spread evenly and the share is near 0."""
  random = np.random.default_rng(0)
  found = [
    null.information(
      one_hot(random.integers(0, 3, 60), 3), random.integers(0, 4, 60), 99, i
    )
    for i in range(100)
  ]
  small = sum(f["p"] <= 0.1 for f in found)
  assert 2 <= small <= 22  # 10 expected
  assert 30 <= sum(f["p"] <= 0.5 for f in found) <= 70
  assert abs(np.mean([f["share"] for f in found])) < 0.01


def test_images_without_group_or_weight_are_left_out():
  random = np.random.default_rng(1)
  weights, groups = random.random((20, 3)), random.integers(0, 2, 20)
  more = np.concatenate([weights, random.random((2, 3)), np.zeros((2, 3))])
  labels = np.concatenate([groups, [-1, -1, 0, 1]])
  assert null.information(more, labels) == null.information(weights, groups)


@pytest.mark.parametrize(
  ("weights", "groups"),
  [
    (np.ones((6, 1)), np.arange(6) % 2),  # one expert
    (np.eye(6), np.zeros(6, int)),  # one group
    (np.ones((6, 3)), np.arange(6)),  # an even gate
  ],
)
def test_nothing_to_tell(weights, groups):
  found = null.information(weights, groups, 20)
  assert found["bits"] == pytest.approx(0, abs=1e-12)
  assert found["p"] == 1
  assert found["share"] == pytest.approx(0, abs=1e-12)


def test_no_image_at_all():
  found = null.information(np.zeros((3, 2)), np.array([0, 1, -1]))
  assert found == {
    "bits": 0, "null_mean": 0, "null_high": 0, "p": 1, "share": 0
  }  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 999), experts=st.integers(2, 5))
def test_names_of_groups_and_experts_do_not_matter(seed, experts):
  random = np.random.default_rng(seed)
  weights, groups = random.random((25, experts)), random.integers(0, 4, 25)
  found = null.information(weights, groups, 3)
  names = random.permutation(50)[:4]
  for other in (
    null.information(weights[:, random.permutation(experts)], groups, 3),
    null.information(weights, names[groups], 3),
    null.information(weights * random.uniform(0.1, 9, (25, 1)), groups, 3),
  ):
    assert other["bits"] == pytest.approx(found["bits"], abs=1e-9)
  entropy = metrics_lib.entropy(np.bincount(groups) / 25) / math.log(2)
  assert 0 <= found["bits"] <= entropy + 1e-9


def naive_hsic(x, y):
  """The unbiased estimate as Nguyen et al. (2021, eq. 3) write it."""
  n = len(x)
  k, m = x @ x.T, y @ y.T
  np.fill_diagonal(k, 0)
  np.fill_diagonal(m, 0)
  one = np.ones(n)
  total = np.trace(k @ m)
  total += (one @ k @ one) * (one @ m @ one) / ((n - 1) * (n - 2))
  total -= 2 / (n - 2) * (one @ k @ m @ one)
  return total / (n * (n - 3))


def test_cka_equals_the_papers_formula():
  random = np.random.default_rng(0)
  x = random.normal(size=(12, 5))
  y = x @ random.normal(size=(5, 7)) + random.normal(size=(12, 7))
  expected = naive_hsic(x, y) / np.sqrt(naive_hsic(x, x) * naive_hsic(y, y))
  assert cka.linear_cka(x, y) == pytest.approx(expected)


@settings(max_examples=25, deadline=None)
@given(
  seed=st.integers(0, 999), scale=st.floats(0.01, 1e4), n=st.integers(4, 20)
)
def test_cka_sees_no_rotation_scale_or_shift(seed, scale, n):
  random = np.random.default_rng(seed)
  x, y = random.normal(size=(n, 6)), random.normal(size=(n, 4))
  turn, _ = np.linalg.qr(random.normal(size=(6, 6)))
  turned = scale * x @ turn + random.normal(size=6)
  found = cka.linear_cka(x, y)
  assert cka.linear_cka(turned, y) == pytest.approx(found, abs=1e-8)
  assert cka.linear_cka(y, x) == pytest.approx(found, abs=1e-12)
  assert cka.linear_cka(x, turned) == pytest.approx(1)
  assert -1 <= found <= 1
  order = random.permutation(n)
  assert cka.linear_cka(x[order], y[order]) == pytest.approx(found, abs=1e-8)


def test_cka_of_independent_features_is_near_0_however_many():
  random = np.random.default_rng(0)
  found = [
    cka.linear_cka(random.normal(size=(40, 400)), random.normal(size=(40, 400)))
    for _ in range(20)
  ]
  assert abs(np.mean(found)) < 0.02
  assert np.max(np.abs(found)) < 0.2


def test_cka_of_what_does_not_depend_on_the_image():
  x = np.random.default_rng(0).normal(size=(9, 3))
  constant = np.full((9, 2), np.float32(0.1))
  assert cka.linear_cka(x, constant) == 0
  assert cka.linear_cka(constant, constant) == 0
  single = np.zeros((9, 2))
  single[0] = 1  # one image apart: no two others differ
  assert cka.linear_cka(x, single) == 0
  with pytest.raises(ValueError, match="3 images"):
    cka.linear_cka(x[:3], x[:3])


def test_cka_matrix():
  random = np.random.default_rng(0)
  outputs = random.normal(size=(3, 10, 4)).astype("f4")
  outputs[2] = 0
  found = cka.matrix(outputs)
  expected = [[cka.linear_cka(x, y) for y in outputs] for x in outputs]
  np.testing.assert_allclose(found, expected, atol=1e-12)
  np.testing.assert_allclose(np.diag(found), [1, 1, 0], atol=1e-12)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 999), experts=st.integers(1, 6))
def test_matching_finds_a_planted_permutation(seed, experts):
  random = np.random.default_rng(seed)
  one = random.dirichlet(np.full(experts, 0.3), 80)
  planted = random.permutation(experts)
  other = np.empty_like(one)
  other[:, planted] = one + random.normal(0, 1e-3, one.shape)
  found = matching.match(one, other)
  if experts == 1:
    planted = [0]
  np.testing.assert_array_equal(found, planted)
  agreed = matching.agreement(one, other, 10)["agreement"]
  assert agreed > 0.95


def test_matching_is_the_best_of_all():
  random = np.random.default_rng(3)
  one, other = random.random((2, 20, 4))
  correlation = np.corrcoef(one.T, other.T)[:4, 4:]
  best = max(
    math.fsum(correlation[i, j] for i, j in enumerate(order))
    for order in itertools.permutations(range(4))
  )
  found = matching.match(one, other)
  assert correlation[np.arange(4), found].sum() == pytest.approx(best)


def test_an_expert_that_is_never_used_is_matched_last():
  one = one_hot([0, 0, 1, 1], 3)
  other = one_hot([2, 2, 0, 0], 3)
  np.testing.assert_array_equal(matching.match(one, other), [2, 0, 1])
  assert matching.agreement(one, other, 50)["agreement"] == 1


def test_agreement_by_hand_and_its_null():
  one = one_hot([0, 0, 0, 1, 1, 1, 2, 2], 3)
  other = one_hot([1, 1, 0, 0, 0, 0, 2, 2], 3)
  found = matching.agreement(one, other)
  assert found["agreement"] == 7 / 8
  assert 3 / 8 < found["null_mean"] < 0.75
  assert found["p"] < 0.1
  # Matching makes unrelated runs agree more than 1 / N, and the null knows.
  random = np.random.default_rng(0)
  chance = [
    matching.agreement(*random.random((2, 50, 4)), 60, seed=i)
    for i in range(40)
  ]
  agreed = np.mean([c["agreement"] for c in chance])
  assert agreed > 0.27
  assert agreed == pytest.approx(
    np.mean([c["null_mean"] for c in chance]), abs=0.02
  )
  assert sum(c["p"] <= 0.1 for c in chance) <= 11  # 4 expected


def test_gates_that_never_change_agree_as_chance_does():
  found = matching.agreement(np.ones((9, 3)), np.ones((9, 3)), 10)
  assert found["agreement"] == found["null_mean"] == found["p"] == 1


def test_stability():
  random = np.random.default_rng(0)
  runs = list(random.random((3, 40, 3)))
  runs.append(runs[0][:, [2, 0, 1]])
  found = matching.stability(runs, 30)
  pairs = [
    matching.agreement(runs[i], runs[j], 30)
    for i in range(4)
    for j in range(i + 1, 4)
  ]
  assert found == {
    "agreement": pytest.approx(np.mean([p["agreement"] for p in pairs])),
    "null_mean": pytest.approx(np.mean([p["null_mean"] for p in pairs])),
    "null_high": max(p["null_high"] for p in pairs),
    "p": max(p["p"] for p in pairs),
    "pairs": 6,
  }
  with pytest.raises(ValueError, match="1 runs"):
    matching.stability(runs[:1])
  with pytest.raises(ValueError, match="as many experts"):
    matching.stability([runs[0], runs[1][:, :2]])


class Gates(nn.Module):
  """The gates of a model, named as there, without the rest of it."""

  kind: str
  ks: dict[str, int]
  temperature: float = 1.0
  bias_rate: float = 0.0
  joint: bool = False

  @nn.compact
  def __call__(self, x):
    options = gates.GateOptions(
      self.kind, 3, 4, 1.0, self.temperature, self.bias_rate
    )
    made = [gates.Gate(options, k, name=name) for name, k in self.ks.items()]
    return gates.route(made, x, joint=self.joint)


BOTH = {"gate_class": 2, "gate_box": 2}


@pytest.mark.parametrize(
  "model",
  [
    Gates("dense", BOTH),
    Gates("noisy_top_k", BOTH),
    Gates("noisy_top_k", {"gate_class": 1, "gate_box": 3}),
    Gates("noisy_top_k", {"gate": 2}),
    Gates("noisy_top_k", BOTH, joint=True, bias_rate=0.5),
    Gates("top_k", BOTH, temperature=0.1),
    Gates("top_k", BOTH, bias_rate=0.5),
  ],
  ids=lambda m: f"{m.kind}-{'-'.join(map(str, m.ks.values()))}-{m.bias_rate}",
)
def test_a_removed_expert_has_no_weight(model):
  x = np.random.default_rng(0).normal(size=(16, 32, 32, 3)).astype("f4")
  variables = filled(model, x)
  # The bias of the selection would have the first one always.
  stats = variables.get("batch_stats", {})
  for bias in jax.tree.leaves(stats):
    bias[0] = 50.0
  assert bool(stats) == (model.bias_rate > 0)
  variables = {**variables, "batch_stats": stats}
  apply = jax.jit(model.apply)
  before = apply(variables, x)
  for expert in range(3):
    after = apply(removal.without_expert(variables, expert), x)
    for old, new in zip(before, after, strict=True):
      weights, probs = np.asarray(new.weights), np.asarray(new.probs)
      assert np.isfinite(weights).all() and np.isfinite(probs).all()
      removed = np.asarray(new.experts) == expert
      assert weights[removed].max(initial=0) < 1e-6
      assert probs[:, expert].max() < 1e-6
      if weights.shape[1] < 3:
        assert not removed.any()
      # The others share what there is in the proportions they had.
      rest = np.delete(old.probs, expert, axis=1)
      np.testing.assert_allclose(
        np.delete(probs, expert, axis=1),
        rest / rest.sum(1, keepdims=True),
        rtol=1e-5,
      )
      if model.kind != "top_k" and weights.shape[1] > 1:
        np.testing.assert_allclose(weights.sum(1), 1, rtol=1e-6)
  again = apply(variables, x)  # Left as they were.
  np.testing.assert_array_equal(again[0].probs, before[0].probs)


@pytest.mark.parametrize(
  ("overrides", "changed"),
  [
    ({}, {"gate_class", "gate_box"}),
    ({"model.share_gate": True}, {"gate"}),
    ({"model.gate": "uniform"}, None),
  ],
)
def test_the_gates_of_a_model_are_found(overrides, changed):
  model = models.build_model(tiny.config(**overrides), 3)
  shapes = shapes_of(
    model.init, jax.random.key(0), np.zeros((1, 32, 32, 3), "u1")
  )
  variables = jax.tree.map(lambda s: np.zeros(s.shape, s.dtype), shapes)
  without = removal.without_expert(variables, 2)
  if changed is None:
    assert without is None
    return
  found = {
    name
    for name, tree in variables["params"].items()
    if not all(
      map(
        np.array_equal, *map(jax.tree.leaves, (tree, without["params"][name]))
      )
    )
  }
  assert found == changed


def test_what_cannot_be_removed():
  tower = {"tower_class": {"logits": {"bias": np.zeros(3)}}}
  one = {"params": {"gate_box": {"logits": {"bias": np.zeros(1)}}, **tower}}
  assert removal.without_expert(one, 0) is None
  assert removal.without_expert({"params": tower}, 0) is None
  two = {"params": {"gate": {"logits": {"bias": np.zeros(2)}}, **tower}}
  with pytest.raises(IndexError, match="expert 2: there are 2"):
    removal.without_expert(two, 2)
  found = removal.without_expert(two, 1)["params"]
  assert found["tower_class"] is tower["tower_class"]
  assert found["gate"]["logits"]["bias"].tolist() == [0, np.float32(-1e30)]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """A trained run whose classes can be told apart a little."""
  folder = tmp_path_factory.mktemp("experts") / "run"
  config = tiny.config(**{"data.validation_fraction": 0.0})
  assert loop.train(config, str(folder)) == 0
  return folder


@pytest.fixture(scope="module")
def found(run):
  return study.study(run)


@pytest.mark.slow
def test_outputs_of_experts_are_what_the_model_mixes(run):
  restored = restore.restore_for_eval(run)
  _, data = evaluate.open_split(restored, "test")
  outputs = expert_outputs.of_images(restored, data.test)
  assert outputs.shape[:2] == (3, 9) and outputs.dtype == np.float32
  some = expert_outputs.of_images(restored, data.test, 3)
  np.testing.assert_allclose(some, outputs[:, [0, 4, 8]], rtol=1e-5, atol=1e-6)
  # Where all experts are the same one, their mixture is what it says.
  model = models.build_model(restored.config, 3)
  mixed = jax.jit(functools.partial(tower_input, model))
  batch = next(data_lib.eval_batches(data.test, restored.config, 4))
  for i in range(3):
    params = dict(restored.variables["params"])
    params["experts"] = jax.tree.map(
      lambda x, i=i: np.stack([x[i]] * 3), params["experts"]
    )
    alone = {**restored.variables, "params": params}
    np.testing.assert_allclose(
      outputs[i, :4],
      mixed(alone, batch["image"]).reshape(4, -1),
      rtol=1e-4,
      atol=1e-5,
    )


def tower_input(model, variables, images):
  """What the class tower is given: the weights of an image sum to 1."""
  seen = []

  def look(method, args, kwargs, context):
    if context.module.name == "tower_class":
      seen.append(args[0])
    return method(*args, **kwargs)

  with nn.intercept_methods(look):
    model.apply(variables, images)
  return seen[0]


@pytest.mark.slow
def test_a_study_of_a_real_run(run, found):
  assert json.loads(json.dumps(found, allow_nan=False)) == found
  assert found["experts"] == 3
  assert found["k"] == [2, 2]
  assert found["tasks"] == ["class", "box"]
  saved = json.loads((run / "eval/test/metrics.json").read_text("utf-8"))
  for task, gate in found["gates"].items():
    assert gate["load"] == pytest.approx(saved[f"{task}/load"])
    assert gate["gate_value"] == pytest.approx(saved[f"{task}/gate_value"])
    assert gate["entropy"] == pytest.approx(
      saved[f"{task}/entropy"] / math.log(2), rel=1e-5
    )
    assert gate["class"]["bits"] == pytest.approx(
      saved[f"{task}/mutual_information"] / math.log(2), abs=1e-5
    )
    weights = np.array(found["weights"][task])
    assert weights.shape == (9, 3)
    assert gate["importance"] == pytest.approx(weights.mean(0), abs=1e-3)
    assert set(gate) >= {"pose", "facing", "background", "family"}
  assert np.shape(found["cka"]) == (3, 3)
  np.testing.assert_allclose(np.diag(found["cka"]), 1)
  agreed = found["agreement"]
  assert set(agreed) == {"divergence", "null", "same_top", "same_top_null"}
  assert all(0 <= v <= 1 for v in agreed.values())


@pytest.mark.slow
def test_removal_of_a_real_run(run, found):
  """The same as an evaluation of the changed variables."""
  restored = restore.restore_for_eval(run)
  config, data = evaluate.open_split(restored, "test")
  step = evaluate.make_predict_step(models.build_model(config, 3))
  whole, without = (
    evaluate.evaluate_source(step, variables, data.test, config, progress=False)
    for variables in (
      restored.variables,
      removal.without_expert(restored.variables, 1),
    )
  )
  lost = found["removal"][1]
  assert [r["expert"] for r in found["removal"]] == [0, 1, 2]
  for name in ("top1", "miou"):
    expected = without.metrics[name] - whole.metrics[name]
    assert lost[name] == pytest.approx(expected, abs=1e-6)
  assert np.mean(lost["per_class"]) == pytest.approx(lost["top1"])
  for gate in without.predictions.routing.values():
    assert gate.load[1] == 0


def test_agreement_of_two_gates_by_hand():
  one = np.array([[0.5, 0.5, 0], [1.0, 0, 0], [0, 0, 0.2]])
  same = study._agreement(one, 2 * one)
  assert same["divergence"] == pytest.approx(0, abs=1e-12)
  assert same["same_top"] == 1
  assert same["null"] > 0.2 and same["same_top_null"] < 1
  apart = study._agreement(one[:2], np.array([[0, 0, 1.0]] * 2))
  assert apart == pytest.approx(
    {"divergence": 1, "null": 1, "same_top": 0, "same_top_null": 0}
  )


def test_a_class_without_images_has_no_change():
  labels = np.array([0, 0, 2, -1])
  p = evaluate.predictions_lib.Predictions(
    ids=list("abcd"),
    labels=labels,
    has_label=labels >= 0,
    logits=np.eye(3)[[0, 1, 2, 0]],
    boxes=None,
    true_boxes=np.zeros((4, 4)),
    has_box=np.zeros(4, bool),
    routing={},
  )
  scores = study._scores(p)
  assert scores["top1"] == pytest.approx(2 / 3)
  np.testing.assert_equal(scores["per_class"], [0.5, np.nan, 1])
  assert "miou" not in scores


def test_one_expert_has_nothing_to_study(tmp_path):
  config = tiny.config(**{"model.experts": 1, "model.k": "1"})
  files.write_json(tmp_path / "config.json", config_lib.to_saved(config))
  assert study.study(tmp_path) == {"experts": 1}
  with pytest.raises(errors.InputError, match="no config"):
    study.study(tmp_path / "nothing")

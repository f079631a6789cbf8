"""The words that options may have, each list once."""

from mtlmoe_jax.moe import strategies

TASKS = ("class", "box")
DATA_NAMES = ("synthetic", "cub", "tfds", "folder")
# Of a path that is named alone.
PATH_NAME = "folder"
EXTRA_NAMES = ("cub", "folder")
SPLIT_SCHEMES = ("official", "poster")
# Gates without parameters, which others are compared to.
CONTROLS = ("uniform", "random")
GATES = ("dense", "noisy_top_k", "top_k", *CONTROLS)
# Gates that let experts choose among tokens: right within one image only.
TOKEN_GATES = ("expert_choice", "soft")
# Of `MoEMlp`, and who competes for its experts.
MOE_GATES = ("noisy_top_k", "top_k", "dense", *TOKEN_GATES)
MOE_GROUPS = ("image", "batch")
GATE_INPUTS = ("pixels", "stem", "all")
TRANSFER_GATES = ("auto", "keep", "new")
GATE_STARTS = ("auto", "zeros", "kmeans", "discriminant")
ROUTERS = ("linear", "cosine", "mlp")
NOISE_SCHEDULES = ("constant", "linear", "cosine")
SELECTS = ("separate", "joint")
COMPUTES = ("dense", "sparse")
DISPATCHES = strategies.SPARSE_NAMES
NORMS = ("frozen", "batch", "group")
CLASSIFIERS = ("linear", "cosine")
CONDENSES = ("pool", "spatial", "pyramid")
OPTIMIZERS = ("adamw", "sgd")
SCHEDULES = ("cosine", "constant")
WEIGHTINGS = ("fixed", "uncertainty", "pcgrad")
PRECISIONS = ("float32", "bfloat16")
EVAL_STEPS = ("best", "latest")
# Metrics of a split of which more is better, by the tasks that they need.
SCORES = {
  "score": (),
  "top1": ("class",),
  "top5": ("class",),
  "top1_loc": ("class", "box"),
  **dict.fromkeys(("miou", "mciou", "ciou_score"), ("box",)),
  **{f"acc_iou_{share}": ("box",) for share in (50, 70, 75, 90)},
}
VIEWS = (
  *("whole", "flip", "crops", "crops+flip"),
  *("zoom", "flip+zoom", "crops+zoom", "crops+flip+zoom"),
)

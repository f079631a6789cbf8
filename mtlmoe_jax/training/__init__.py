"""Training: state, step, optimiser, loop, checkpoints, sharding."""

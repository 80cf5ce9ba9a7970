"""Training: a corpus becomes a pool of stems, the pool endless mixes, and the mixes a checkpoint."""

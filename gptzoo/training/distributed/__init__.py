"""Training on several ranks: process group, collectives, data, sharded and tensor parallelism."""

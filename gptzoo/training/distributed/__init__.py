"""Training over several processes: ranks, data, sharded and tensor parallelism."""

"""The runner of the benchmarks: cases, timing in turns, result files, tables and bounds."""

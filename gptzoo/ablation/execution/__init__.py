"""The execution of trials: executors, the runner and trial folders."""

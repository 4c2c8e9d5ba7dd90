"""gptzoo models in lm-evaluation-harness (the package `lm_eval`)."""

"""Records of an ablation: variants, trials, selection and analysis, as plain data."""

"""Import of checkpoints from Hugging Face `transformers`, one `importer` component per model family."""

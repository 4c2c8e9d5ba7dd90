"""Parts of the export of models to families of Hugging Face `transformers`."""

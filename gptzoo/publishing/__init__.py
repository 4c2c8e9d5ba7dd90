"""Models and runs on the Hugging Face Hub: push with a model card, and pull."""

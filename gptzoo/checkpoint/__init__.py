"""What is kept on disk: safetensors and JSON, written so that a kill at any moment loses nothing.

A model folder has model.json (the resolved spec), model.safetensors and, where text is known, tokenizer.json.
A checkpoint is a model folder with optimizer.safetensors, state.json and manifest.json.
"""

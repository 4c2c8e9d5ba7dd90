"""Files on disk: model folders and checkpoints, written atomically as safetensors and JSON.

A model folder holds model.json (the resolved spec), model.safetensors and, if there is a tokenizer, tokenizer.json.
A checkpoint is a model folder with optimizer.safetensors, state.json and manifest.json.
"""

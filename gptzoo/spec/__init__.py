"""The specs of models, runs and ablations: pydantic models, and the files that they are read from."""

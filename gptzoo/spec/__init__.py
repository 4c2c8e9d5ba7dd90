"""How models and runs are described: pydantic models, and the files that they are read from."""

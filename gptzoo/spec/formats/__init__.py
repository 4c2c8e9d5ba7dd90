"""The formats of spec files: JSON with comments, YAML and TOML. Each is read to the same JSON values."""

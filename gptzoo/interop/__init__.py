"""Models from elsewhere: checkpoints of other libraries become model folders, one `importer` for each family."""

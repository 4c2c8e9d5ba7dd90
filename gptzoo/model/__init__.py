"""What is built: the decoder and its blocks, initial values, loss, and the accounting of what a model costs."""

"""The server process: the models in it, the memory that they need, their turns, and the address."""

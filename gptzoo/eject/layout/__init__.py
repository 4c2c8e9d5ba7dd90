"""The layout of an ejected file: its head, its parts and the frame around them."""

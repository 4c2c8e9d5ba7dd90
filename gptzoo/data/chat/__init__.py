"""Chats as prompts: a model's chat template, and its rendering in a process with limits."""

"""The endpoint `POST /v1/chat/completions`, in OpenAI's format."""

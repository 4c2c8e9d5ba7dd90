"""An HTTP server with OpenAI's completions API."""

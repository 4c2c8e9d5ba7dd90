"""Access to the Hugging Face Hub: names and files of repositories, downloads, and errors that say what to do."""

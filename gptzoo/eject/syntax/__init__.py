"""Reading, rewriting and writing Python code as syntax trees."""

"""Output for terminals and pipes: tables that fit, and lines that say what takes so long."""

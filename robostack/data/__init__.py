"""Episodes on disk, replay, foreign formats and inspection."""

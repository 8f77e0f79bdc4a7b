"""Episodes on disk: datasets, replay, recordings, foreign formats, inspection."""

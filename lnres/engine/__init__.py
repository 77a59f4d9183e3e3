"""Where runs live: never in the server's process, always in warm workers."""

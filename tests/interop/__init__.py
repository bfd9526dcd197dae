"""Real servers: what is fetched and streamed has the digest of what curl downloads."""

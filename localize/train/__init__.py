"""Training small models from scratch with planted paragraphs, whose memory is known."""

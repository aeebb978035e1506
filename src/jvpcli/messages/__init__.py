"""PyTorch's messages in plain words: cards (`cards/*.md`), a matcher that finds the one a message or log is about."""

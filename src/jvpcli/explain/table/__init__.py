"""The table of known messages, in rooms by subject: data, not code.

An entry is an id, the wordings under which PyTorch's versions have said it, and what it means.  Nothing but
`explain/messages.py` searches for them.
"""

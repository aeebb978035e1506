"""Meaning: derivatives and failures turned into plain data for people."""

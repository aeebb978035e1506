"""Repairs of a failing sub-expression: each room yields edited sources for one kind of operation; `search` tries them."""

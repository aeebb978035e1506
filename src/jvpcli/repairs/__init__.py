"""Repairs of a failing sub-expression: files of edits for kinds of operations, a search that tries them, a diagnosis."""

"""A pasted program as Python itself runs it, closed: it can do nothing but arithmetic on tensors."""

"""Attributes that are computed when they are first asked for."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from jvpcli.attributes import cached_property


def test_an_attribute_is_computed_once_of_each_instance():
    asked = []

    @dataclass(frozen=True)
    class Point:
        x: float

        @cached_property
        def square(self) -> float:
            """x times x."""
            asked.append(self.x)
            if self.x < 0:
                raise ValueError("negative")
            return self.x * self.x

    three, four = Point(3.0), Point(4.0)
    assert [three.square, four.square, three.square] == [9.0, 16.0, 9.0]
    assert asked == [3.0, 4.0]
    assert vars(three) == {"x": 3.0, "square": 9.0}
    assert Point.square.__doc__ == "x times x."
    below = Point(-1.0)
    for _ in range(2):  # what fails is not kept
        with pytest.raises(ValueError, match="negative"):
            _ = below.square
    assert asked == [3.0, 4.0, -1.0, -1.0]

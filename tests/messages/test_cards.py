"""Cards: the notation of a page, what is left out, and that every name on a card of the catalogue leads somewhere."""

from __future__ import annotations

import inspect
import re
from importlib import import_module

import pytest

from jvpcli.messages.cards import FOLDER, TOPICS, Card, Found, cards, fill, read_cards
from jvpcli.repairs.diagnosis import family_of

PAGE = """about: shapes
RULE = Sizes are compared
  from the right.

# two-sizes
> sizes {a:int} and {b:int} differ{? at axis {axis:int}
  of the tensor}
> old wording, {given:shape}
repair: elementwise.broadcasting

## Sizes {a} and {b}

{RULE} There are {a:axis}{?, the axis is {axis}}; it is {axis?number {axis}|not named}.
In a second line {other or nothing} more.\\
A third stands alone.

- Because
  of this.
- {axis?}An axis is named: {axis}.
- {no axis?}No axis is named.
+ x.expand({given:sizes})
+ for n in range({b}):\\
      print(n)

## Another form for {given}

+ x.expand({given:sizes})

# alone
> never seen
about: values

## {a} and {given}
"""


@pytest.fixture
def page() -> dict[str, Card]:
    return {card.id: card for card in read_cards(PAGE)}


def found(**groups: str) -> Found:
    return Found(groups, {"a": "int", "b": "int", "axis": "int", "given": "shape"})


def test_the_notation_of_a_page(page):
    card = page["two-sizes"]
    assert card.wordings == (
        "sizes {a:int} and {b:int} differ{? at axis {axis:int} of the tensor}",
        "old wording, {given:shape}",
    )
    assert (card.about, card.repair, page["alone"].about) == ("shapes", "elementwise.broadcasting", "values")


def test_places_are_filled_and_what_misses_something_is_left_out(page):
    words = page["two-sizes"].say(found(a="1", b="3"))
    assert words.title == "Sizes 1 and 3"
    assert words.meaning == (
        "Sizes are compared from the right. There are 1 axis; it is not named. In a second line nothing more.\n"
        "A third stands alone."
    )
    assert words.causes == ("Because of this.", "No axis is named.")
    assert words.cures == ("for n in range(3):\n    print(n)",)
    words = page["two-sizes"].say(found(a="2", b="3", axis="0", other="some"))
    assert "There are 2 axes, the axis is 0; it is number 0. In a second line some more." in words.meaning
    assert words.causes == ("Because of this.", "An axis is named: 0.")


def test_the_first_form_that_misses_nothing_counts(page):
    words = page["two-sizes"].say(found(given="torch.Size([2, 3])"))
    assert (words.title, words.meaning, words.causes) == ("Another form for (2, 3)", "", ())
    assert words.cures == ("x.expand(2, 3)",)
    assert page["two-sizes"].say(found(given="[]")).cures == ("x.expand(())",)
    assert page["alone"].say(found(a="7")).title == "7 and …"  # the last form is said in any case


def test_braces_that_are_no_places_stay():
    text = "{name: p for name, p in state.items()}; {'w': w}"
    assert fill(text, {}) == text


def pages() -> list[Card]:
    return [card for topic in TOPICS for card in read_cards((FOLDER / f"{topic}.md").read_text("utf-8"))]


def test_every_file_is_a_topic_and_every_id_stands_once():
    assert {path.stem for path in FOLDER.iterdir()} == set(TOPICS)
    assert len(pages()) == len(cards())


@pytest.mark.parametrize("card", pages(), ids=lambda card: card.id)
def test_what_a_card_names_is_there(card):
    assert card.wordings
    assert set(vars(card)) == {"id", "wordings", "text", "shared", "repair", "pieces", "words", "about"}
    assert bool(card.text) is not bool(card.words)
    assert not card.words or cards()[card.words].text
    assert card.about in ("", "shapes", "values")
    assert callable(family_of(card.repair))
    captured = {name for wording in card.wordings for name in re.findall(r"\{(\w+):\w+\}", wording)}
    for other in cards().values():
        if other.words == card.id:
            captured |= {name for wording in other.wordings for name in re.findall(r"\{(\w+):\w+\}", wording)}
    given: set[str] = set()
    if card.pieces:
        module, _, function = card.pieces.partition(".")
        decides = import_module(f"jvpcli.messages.{module}")
        assert callable(getattr(decides, function))
        given = set(re.findall(r'"(\w+)"', inspect.getsource(decides)))
    places = set(re.findall(r"\{(?:no )?(\w+)(?:\?|:\w+\}| or |\})", card.text))
    assert places <= captured | given | card.shared.keys() | {"owner"}

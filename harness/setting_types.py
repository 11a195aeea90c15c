"""What a setting can be: numbers with their bounds, names, lists without doubled entries; and how it says what it is."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticCustomError
from skillneurons.form import MOST

DEVICE = r"^(auto|cpu|cuda(:[0-9]+)?)$"
TEXT = r"^[^\x00-\x1f\x7f]*[^\s\x00-\x1f\x7f][^\x00-\x1f\x7f]*$"  # one line that is not blank


def different(value: list[Any]) -> list[Any]:
    for index, entry in enumerate(value):
        if entry in value[:index]:
            raise PydanticCustomError("doubled", "stands twice; each must be given once", {"index": index})
    return value


def _number(value: Any) -> Any:
    """A whole number is a number too, and always the same one: 1 and 1.0 give one key."""
    if not isinstance(value, int) or isinstance(value, bool):
        return value
    try:
        return float(value)
    except OverflowError:  # the type says that it is none
        return value


def about(text: str, **rules: Any) -> Any:
    """Say in one line what a setting is, with its bounds."""
    return Field(description=text, **rules)


Positive = Annotated[int, Field(gt=0, le=MOST)]
Count = Annotated[int, Field(ge=0, le=MOST)]
Seed = Annotated[int, Field(ge=-MOST, le=MOST)]
Number = Annotated[float, BeforeValidator(_number)]
Text = Annotated[str, Field(pattern=TEXT)]
Different = AfterValidator(different)
UNIQUE = {"uniqueItems": True}

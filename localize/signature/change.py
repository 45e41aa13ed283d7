"""Two signatures of the same paragraphs, before and after an edit of the model, and what changed between them."""

from dataclasses import dataclass

from localize.signature.signature import MemorizationSignature


@dataclass(frozen=True, eq=False)
class Change:
    """The same paragraphs measured before and after an edit.

    Attributes:
        before: Of the model as it was.
        after: Of the edited model.
    """

    before: MemorizationSignature
    after: MemorizationSignature

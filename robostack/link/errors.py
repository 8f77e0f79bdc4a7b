"""What a client can be told; each error is one sentence for a person."""

from __future__ import annotations

from robostack.messages import Notice, Refusal


class LinkError(RuntimeError):
    """The other end did not answer, or not as it should have."""


class RefusedError(LinkError):
    """The node said no; `refusal.differences` has all reasons."""

    def __init__(self, refusal: Refusal) -> None:
        lines = (refusal.sentence, *refusal.differences)
        super().__init__("\n  ".join(lines))
        self.refusal = refusal


class LeftError(LinkError):
    """The node left ACTIVE by itself: the episode is over, and the robot holds."""

    def __init__(self, notice: Notice) -> None:
        super().__init__(f"the node went to {notice.state}: {notice.cause}")
        self.notice = notice

"""What a reader is told who uses a part of PyTorch that the tab does not have."""


class Missing(NotImplementedError):
    """A part of PyTorch that the tab's stand-in lacks."""

    def __init__(self, what: str, present: str):
        super().__init__(f"the tab has only a part of PyTorch, and {what} is not in it. {present}")

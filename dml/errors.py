"""Errors a person at the command line can mend."""


class UserError(ValueError):
    """A mistake in the input or the configuration; its message is one sentence that says what to do."""

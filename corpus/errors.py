"""Errors whose reader is a person at a keyboard."""


class UserError(Exception):
    """A mistake that the user can mend: names the item, the reason and the way out.

    The command line prints its text without a traceback and exits with 2.
    """

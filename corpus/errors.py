"""Errors whose reader is a person at a keyboard."""


class UserError(Exception):
    """A mistake that the user can mend: names the item, the reason and the way out.

    The command line prints its text without a traceback and exits with 2. Raised while a stage
    works on a record, it leaves that record for the next run: a mistake is no property of a film.
    """

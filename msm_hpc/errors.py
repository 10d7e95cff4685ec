"""The one exception family for what a user can mend."""


class UserError(ValueError):
    """Something the user gave is wrong; the message says what, why and the fix.

    The command line prints the message alone, without a traceback, and exits with code 2.
    """

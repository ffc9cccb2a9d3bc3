"""The error that the shell turns into one sentence and exit code 2."""


class InputError(ValueError):
    """Raised where a file, a table or an option cannot be used as it is.

    The message is one sentence: what is required, what was given, how to mend it.
    """

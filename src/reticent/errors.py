"""The one error that means "the input is wrong", shared by all rooms, and other errors in a line."""


class InputError(ValueError):
    """Wrong input from the user.

    The message is one or two lines: what is wrong, where (file, row, layer or option), and the remedy. The command
    line prints it without a traceback and exits with code 2.
    """


def first_line(error: Exception) -> str:
    """What an error says in one line."""
    return (str(error).strip().splitlines() or [repr(error)])[0]

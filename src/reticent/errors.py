"""The one error that means "the input is wrong", shared by all rooms."""


class InputError(ValueError):
    """Wrong input from the user.

    The message is one or two lines: what is wrong, where (file, row, layer or option), and the remedy. The command
    line prints it without a traceback and exits with code 2.
    """

"""What the commands share: their beginning and end, typed flags, one clear line for bad input, tables of text."""

import contextlib
import dataclasses
import difflib
import io
import itertools
import os
import re
import signal
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, NoReturn, TypeVar, get_args

import gymnasium as gym
import tyro

from cppo.reading import one_line, shown

Flags = TypeVar("Flags")
BAD_INPUT = (
    ValueError,
    TypeError,
    OSError,
    gym.error.Error,
    ImportError,  # --env of a package that isn't installed
    AssertionError,  # stable-baselines3 checks the spaces of an environment with assert
    NotImplementedError,
    MemoryError,
)
"""What building things from bad input raises."""
COLOR = re.compile("\x1b\\[[0-9;]*m")
"""What gymnasium's warnings are coloured with."""
MOST_DIGITS = 300
"""Of a whole number; longer ones are a slip of the keyboard."""
NUMBERS = tyro.constructors.ConstructorRegistry()
"""How flags are read besides tyro's own rules."""


def run(main: Callable[[], int | None]) -> NoReturn:
    """Run a command and end the process; Ctrl-C, or a reader that closes the pipe, ends it without a traceback.

    ``cppo/__init__.py`` has let Ctrl-C end the process at once while it imported.

    :param main: the command; returns its exit code, None for 0
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    code: Any
    try:
        try:
            code = main()
        except SystemExit as end:
            code = end.code
        sys.stdout.flush()
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:
        code = 128 + signal.SIGPIPE
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (sys.stdout, sys.stderr):  # what they still hold has no reader
            os.dup2(nowhere, stream.fileno())
    raise SystemExit(code)


@NUMBERS.primitive_rule
def whole_numbers(info: tyro.constructors.PrimitiveTypeInfo) -> tyro.constructors.PrimitiveConstructorSpec | None:
    """Read flags of whole numbers as ``whole`` does."""
    if info.type is not int:
        return None
    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="INT",
        instance_from_str=lambda words: whole(words[0]),
        is_instance=lambda value: isinstance(value, int) and not isinstance(value, bool),
        str_from_instance=lambda value: [str(value)],
    )


def whole(word: str) -> int:
    """Read a whole number as people write it: ``1000000``, ``1_000_000`` or ``1e6``.

    :raises ValueError: if it is none
    """
    try:
        number = Decimal(word)
        if number.adjusted() <= MOST_DIGITS and number == number.to_integral_value():
            return int(number)
    except (InvalidOperation, OverflowError):
        pass
    raise ValueError(f"{word!r} is no whole number")


def parse(
    flags: type[Flags], program: str, description: str, default: Flags | None = None, args: Sequence[str] | None = None
) -> Flags:
    """Read the command line into a dataclass.

    :param description: what it does, the first part of ``--help``
    :param default: where defaults come from; by default the dataclass itself
    :return: the flags; bad ones end the program with one line on stderr and exit code 2
    """
    given: dict[str, Any] = {"default": default} if default is not None else {}
    return _parse(program, flags, description=description, args=args, **given)


def parse_known(flags: type[Flags], program: str, args: Sequence[str]) -> tuple[Flags, list[str]]:
    """Read some flags of a command line, ``--help`` not among them.

    :return: the flags, and the rest of the command line; bad ones end the program as they do in ``parse``
    """
    return _parse(program, flags, args=args, return_unknown_args=True, add_help=False)


def _parse(program: str, flags: type[Any], **options: Any) -> Any:
    errors = io.StringIO()
    try:
        with NUMBERS, contextlib.redirect_stderr(errors), warnings.catch_warnings():
            # Of settings that have no effect, whose default is None whatever their type.
            warnings.filterwarnings("ignore", "The field .* is annotated with type")
            return tyro.cli(flags, prog=program, **options)
    except SystemExit as end:
        if end.code == 2:
            fail(program, _with_nearest(_first_paragraph(errors.getvalue()), flags))
        raise


def _with_nearest(message: str, flags: Any) -> str:
    """Name the flags nearest to those that a message says aren't known."""
    known = list(_names(flags))
    if not message.startswith("Unrecognized"):
        return message
    unknown = [word for word in re.findall(r"--[\w-]+", message) if word not in known]
    return _add_nearest(message, unknown, known)


def check_word(program: str, what: str, word: str, known: Iterable[str]) -> None:
    """End the program with one line, which names the nearest, if a word is none of those that are known.

    :param what: what the word is meant as
    """
    known = list(known)
    if word not in known:
        fail(program, _add_nearest(f"{what} {word!r} is unknown; choose one of {', '.join(known)}", [word], known))


def _add_nearest(message: str, unknown: Iterable[str], known: Sequence[str]) -> str:
    """Add to a message the known words nearest to those that aren't."""
    nearest = [found for word in unknown for found in difflib.get_close_matches(word, known, 1)]
    return f"{message}; did you mean {', '.join(nearest)}?" if nearest else message


def _names(flags: Any) -> Iterator[str]:
    """The names of all flags of a dataclass, or of several."""
    if not dataclasses.is_dataclass(flags):
        for part in get_args(flags):
            yield from _names(part)
        return
    for field in dataclasses.fields(flags):
        if "Positional" not in str(field.type):
            yield "--" + field.name.replace("_", "-")


def or_fail(program: str, build: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a function on the user's input; bad input ends the program with one line on stderr and exit code 2."""
    try:
        return build(*args, **kwargs)
    except BrokenPipeError:
        raise
    except BAD_INPUT as error:
        fail(program, str(error) or type(error).__name__)
    except RuntimeError as error:
        if "allocate" not in str(error) and "out of memory" not in str(error):  # how torch says it
            raise
        fail(program, f"there is not enough memory: {error}")
    except SystemExit as error:
        fail(program, f"the environment, or a module, called sys.exit({error.code!r})")
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def fail(program: str, message: str) -> NoReturn:
    """End the program with one line on stderr and exit code 2."""
    print(f"{program}: error: {one_line(message)}", file=sys.stderr)
    raise SystemExit(2)


def show_warnings_plainly(program: str) -> None:
    """Show each warning as one line on stderr, without the place in the code that issued it."""

    def show(message: Warning | str, *_: Any) -> None:
        print(f"{program}: warning: {one_line(COLOR.sub('', str(message)))}", file=sys.stderr, flush=True)

    warnings.showwarning = show  # type: ignore[assignment]


def aligned(rows: Sequence[Sequence[str]], n_left: int = 2) -> str:
    """Set rows as columns: the first ones flush left, the others, of figures, flush right; what steers is escaped.

    :param n_left: how many columns are flush left
    """
    rows = [[shown(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if place < n_left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def _first_paragraph(box: str) -> str:
    """The message of a boxed error: what stands between its title and the next rule.

    The title is part of the box's upper edge, or, where stdout can't show lines, has a rule of its own below.
    """
    lines = [line.strip().strip("│").strip() for line in box.splitlines()[1:]]
    message = itertools.dropwhile(_is_rule, lines)
    return " ".join(itertools.takewhile(lambda line: not _is_rule(line), message))


def _is_rule(line: str) -> bool:
    return not line.strip("─╰╯-")

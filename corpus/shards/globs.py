"""A range of numbered files as a few patterns that any glob understands."""


def globs(first: int, last: int, width: int) -> list[str]:
    """Patterns for the numbers ``first`` to ``last``, both included, of at least ``width`` digits:
    each number in exactly one.

    ``globs(8, 21, 3)`` is ``["00[8-9]", "01[0-9]", "02[0-1]"]``.
    """
    found = []
    while first <= last:
        step, digits = 1, max(width, len(str(first)))
        while (
            len(str(step)) < digits and first % (10 * step) == 0 and first + 10 * step - 1 <= last
        ):
            step *= 10
        run = min((last - first + 1) // step, 10 - first // step % 10)
        head = f"{first // step:0{max(width - len(str(step)) + 1, 1)}d}"
        low, high = int(head[-1]), int(head[-1]) + run - 1
        place = str(low) if low == high else f"[{low}-{high}]"
        found.append(head[:-1] + place + "[0-9]" * (len(str(step)) - 1))
        first += run * step
    return found

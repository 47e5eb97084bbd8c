"""Write units that a plan covers in part: who writes one besides its neighbours needs what they wrote."""

import math

from frazil_functions.errors import UnalignedRegionError
from frazil_functions.plan import Plan


def check_units(plan: Plan) -> None:
    """Refuse a plan that writes a part of a write unit; the end of an array is no part.

    Raises
    ------
    UnalignedRegionError
        Naming the array, the dimension, the ranges that would do, and both choices.
    """
    template = plan.template
    grids = [grid for grid in plan.grids if grid.total]
    for dim, (start, stop) in template.extents.items():
        length = template.sizes[dim]
        units = {grid.array: grid.unit[grid.dims.index(dim)] for grid in grids if dim in grid.dims}
        for array, unit in units.items():
            if start % unit == 0 and (stop % unit == 0 or stop == length):
                continue
            every = math.lcm(*units.values())
            wide = (start - start % every, min(length, -(-stop // every) * every))
            low, high = -(-start // every) * every, length if stop == length else stop - stop % every
            alone = f", or {low}:{high}" if low < high else ""
            raise UnalignedRegionError(
                f"the files cover {dim} {start}:{stop}, and {array!r} is written in units of {unit} along {dim!r}, so "
                f"they cover a part of some. Give files for {dim} {wide[0]}:{wide[1]}{alone}; or complete these units "
                f"from what the group holds (--partial merge). In a group that is made with chunks along {dim!r} which "
                f"divide what each file holds (create-template --chunks {dim}=N) every file has its own"
            )

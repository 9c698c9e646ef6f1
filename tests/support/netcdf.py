"""NetCDF files for tests: the real ones that are found, and generated ones of each format."""

import os
from collections.abc import Callable
from pathlib import Path

import netCDF4
import numpy as np

from zarrfuse.convert.frames import Frame, StoreObject
from zarrfuse.convert.pipeline import Conversion, Origin
from zarrfuse.convert.plan import DEFAULT_SIZES, Sizes

_REPOSITORY = Path(__file__).parents[2]
DATA = _REPOSITORY / "tests" / "data"
_SUFFIXES = (".nc", ".nc4", ".h5", ".hdf5", ".hdf")


def real_files() -> list[Path]:
    """Those of the repository, and of the larger set where it is at hand; one per name."""
    folders = [DATA, Path(os.environ.get("ZARRFUSE_NC", _REPOSITORY.parent / "shared" / "nc"))]
    found = {
        path.name: path
        for folder in folders
        if folder.is_dir()
        for path in sorted(folder.iterdir())
        if path.suffix in _SUFFIXES
    }
    return [found[name] for name in sorted(found)]


def generate(
    path: Path, fill: Callable[[netCDF4.Dataset], None], *, model: str = "NETCDF4"
) -> Path:
    """A file with what `fill` puts into it, raw."""
    with netCDF4.Dataset(path, "w", format=model) as dataset:
        dataset.set_auto_maskandscale(False)
        dataset.set_auto_chartostring(False)
        fill(dataset)
    return path


def small_classic(path: Path, model: str) -> Path:
    """Fixed and record variables of several widths, attributes, an odd-sized tail."""

    def fill(dataset: netCDF4.Dataset) -> None:
        dataset.title = "a title"
        dataset.createDimension("t", None)
        dataset.createDimension("x", 3)
        fixed = dataset.createVariable("fixed", "i2", ("x",))
        fixed.setncattr("range", np.array([1, 2, 3], "i2"))
        fixed[:] = [1, 2, 3]
        for name, dtype in (("a", "f8"), ("b", "i1"), ("c", "i2")):
            dataset.createVariable(name, dtype, ("t", "x"))[0:3] = np.arange(1, 10).reshape(3, 3)

    return generate(path, fill, model=model)


def convert_to(source: Path, target: Path, sizes: Sizes = DEFAULT_SIZES) -> list[StoreObject]:
    """Converts in this process, into a directory; answers the objects in their order."""
    objects: list[StoreObject] = []

    def emit(frame: Frame) -> None:
        if isinstance(frame, StoreObject):
            objects.append(frame)
            path = target / frame.key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(frame.data)

    origin = Origin(source.name, source.stat().st_size, "0" * 64)
    done = Conversion(source, origin, emit, sizes).run()
    assert done.objects == len(objects)
    return objects

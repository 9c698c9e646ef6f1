"""Draw a month of the sea surface temperature from a Zarr store.

usage: picture.py STORE.zarr FILE.png

Expects what NOAA's ERSST has: `sst(time, lat, lon)` in degrees Celsius, missing over land. The
coast is the edge of what is missing.
"""

import os
import sys
from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.ticker import FuncFormatter, MultipleLocator

#: The warm event that the whole Pacific shows best in this series.
MONTH = "2015-11"
_LAND, _COAST, _INK = "#d9d4c7", "#5b564b", "#26313d"
# From cold to warm through rising lightness, then red: readable in grey as far as 25 degrees.
_COLOURS = ("#1b1f5e", "#23559b", "#2f93b8", "#7cc4b5", "#e3e6a4", "#f5b55a", "#dc5f3a", "#8e1f2f")
_COLDEST, _WARMEST = -2.0, 32.0


def main(arguments: Sequence[str]) -> int:
    if len(arguments) != 2:
        print(__doc__, file=sys.stderr)
        return os.EX_USAGE
    store, output = arguments
    with xr.open_zarr(store) as dataset:
        draw(dataset["sst"].sel(time=MONTH).squeeze("time").load(), output)
    print(f"saved {output}")
    return 0


def draw(sst: xr.DataArray, output: str) -> None:
    """One map, north up, the Pacific in the middle."""
    plt.switch_backend("Agg")  # there may be no display
    plt.rcParams.update({"font.size": 10, "text.color": _INK, "axes.labelcolor": _INK})
    figure, axes = plt.subplots(figsize=(11, 5.5), layout="constrained")
    colours = LinearSegmentedColormap.from_list("sea", _COLOURS)
    lon, lat = sst["lon"].values, sst["lat"].values
    axes.set_facecolor(_LAND)
    image = axes.pcolormesh(
        lon, lat, sst.values, cmap=colours, vmin=_COLDEST, vmax=_WARMEST, shading="nearest"
    )
    _isotherms(axes, sst)
    _coast(axes, sst)
    _frame(axes)
    month = sst["time"].dt.strftime("%B %Y").item()
    axes.set_title(f"Sea surface temperature, {month}", fontsize=14, fontweight="bold", loc="left")
    axes.set_title("NOAA ERSST v5, monthly mean, 2° grid", fontsize=9, loc="right")
    bar = figure.colorbar(image, cax=axes.inset_axes((1.015, 0, 0.016, 1)), extend="max")
    bar.set_label("Temperature (°C)")
    bar.ax.tick_params(length=3, color=_INK, labelcolor=_INK)
    bar.outline.set_visible(False)
    figure.savefig(output, dpi=140)
    plt.close(figure)


def _isotherms(axes: Axes, sst: xr.DataArray) -> None:
    """Every 5 degrees; 28, where the warm pool begins, a little stronger."""
    for levels, width in (([5, 10, 15, 20, 25], 0.4), ([28], 0.9)):
        lines = axes.contour(
            sst["lon"], sst["lat"], sst, levels=levels, colors=_INK, linewidths=width, alpha=0.7
        )
        axes.clabel(lines, fmt="%d", fontsize=7)


def _coast(axes: Axes, sst: xr.DataArray) -> None:
    """Along the edges of the cells: a line through their middles would cut the sea."""
    land = np.isnan(sst.values)
    lon, lat = sst["lon"].values, sst["lat"].values
    half_lon, half_lat = np.diff(lon)[0] / 2, np.diff(lat)[0] / 2
    rows, columns = np.nonzero(land[:, 1:] != land[:, :-1])
    x = lon[columns] + half_lon
    axes.vlines(x, lat[rows] - half_lat, lat[rows] + half_lat, colors=_COAST, linewidth=0.6)
    rows, columns = np.nonzero(land[1:] != land[:-1])
    y = lat[rows] + half_lat
    axes.hlines(y, lon[columns] - half_lon, lon[columns] + half_lon, colors=_COAST, linewidth=0.6)


def _frame(axes: Axes) -> None:
    axes.set_aspect("equal")
    axes.set_ylim(-80, 88)
    axes.xaxis.set_major_locator(MultipleLocator(60))
    axes.yaxis.set_major_locator(MultipleLocator(30))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda east, _: _degrees_east(east)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda north, _: _degrees_north(north)))
    axes.set_xlabel("Longitude")
    axes.set_ylabel("Latitude")
    axes.tick_params(length=3, color=_INK, labelcolor=_INK)
    for spine in axes.spines.values():
        spine.set_color(_INK)
        spine.set_linewidth(0.6)


def _degrees_east(east: float) -> str:
    """0 to 360 as people write it."""
    signed = (east + 180) % 360 - 180
    if east % 180 == 0:
        return f"{abs(signed):.0f}°"
    return f"{abs(signed):.0f}°{'E' if signed > 0 else 'W'}"


def _degrees_north(north: float) -> str:
    return "0°" if north == 0 else f"{abs(north):.0f}°{'N' if north > 0 else 'S'}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

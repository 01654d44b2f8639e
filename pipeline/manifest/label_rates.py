"""Which frames of each video are labelled, as label keys and the videos table hold it: `6fps`, `3f`, null for all."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.manifest.canonical import numbers

ASSUMED_FPS = 30.0
"""Rate of a video that its manifest does not give, to estimate how many of its frames are labelled."""


def label_rates(manifest: pa.Table, default: str | None) -> pa.Array:
    """The label rate of every video: its own, or the run's `default`."""
    fps, every = (manifest[name].combine_chunks() for name in ("label_fps", "label_every"))
    own = pc.if_else(
        fps.is_valid(),
        pc.binary_join_element_wise(numbers(fps), "fps", ""),
        pc.binary_join_element_wise(every.cast(pa.string()), "f", ""),
    )
    found = pc.coalesce(own, pa.scalar(default, pa.string()))
    return pc.if_else(pc.equal(found, "1f"), pa.scalar(None, pa.string()), found)


def labelled_shares(manifest: pa.Table, rates: pa.Array) -> npt.NDArray[np.float64]:
    """For every video the estimated share of its frames that are labelled, float64 (rows,)."""
    shares = np.ones(len(rates))
    own = manifest["fps"].combine_chunks().fill_null(ASSUMED_FPS).to_numpy()
    places = rates.dictionary_encode()
    for code, text in enumerate(places.dictionary.to_pylist()):
        rows = np.flatnonzero(places.indices.fill_null(-1).to_numpy() == code)
        shares[rows] = labelled_share(text, own[rows])
    return shares


def labelled_share(rate: str, fps: npt.NDArray[np.float64] | float) -> npt.NDArray[np.float64] | float:
    """The share of frames that a label rate labels of videos with these frame rates."""
    number = float(rate.removesuffix("fps").removesuffix("f"))
    share: npt.NDArray[np.float64] | float = np.minimum(number / fps, 1.0) if rate.endswith("fps") else 1 / number
    return share

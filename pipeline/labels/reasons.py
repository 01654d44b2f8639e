"""Why labels differ: the inputs of the label key that are not the same."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.labels.key import KEY_COLUMNS


def changed_inputs(table: pa.Table, labelled: pa.Table, where: pa.Array) -> pa.Array:
    """For every video why its label key is not the published one: "new video", or which parts of the key changed.

    `where` is each video's row of `labelled`, or null.
    """
    names = list(dict.fromkeys(KEY_COLUMNS.values()))
    changed = dict.fromkeys(names, np.zeros(table.num_rows, bool))
    for column, name in KEY_COLUMNS.items():
        old, new = labelled[column].take(where), table[column]
        same = pc.or_(pc.fill_null(pc.equal(old, new), False), pc.and_(pc.is_null(old), pc.is_null(new)))
        if column in ("fps", "algorithm_version"):  # null where the key has no rate, or the labels are older
            same = pc.or_(same, pc.or_(pc.is_null(old), pc.is_null(new)))
        changed[name] = changed[name] | ~same.to_numpy()
    code = sum(changed[name].astype(int) << bit for bit, name in enumerate(names))
    texts = [" and ".join(n for bit, n in enumerate(names) if code >> bit & 1) for code in range(1 << len(names))]
    # Release 0.1.0 left fps out of the key, and a manifest may leave it out again: the rate itself may be the same.
    texts = [f"{text or 'fps'} changed" for text in texts]
    return pc.if_else(pc.is_null(where), "new video", pa.array(texts).take(pa.array(code)))

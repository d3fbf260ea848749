"""Columns of a dataset's Parquet tables: read, set and dropped, and the file written anew."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from rewact_ros.files import replacing_file


def column_numbers(table: pa.Table, key: str) -> NDArray[Any]:
    """Return a column of one number per row; a list of one number is one number."""
    values = table[key].combine_chunks()
    if pa.types.is_list(values.type) or pa.types.is_fixed_size_list(values.type):
        values = values.flatten()
    return values.to_numpy(zero_copy_only=False)


def set_column(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    """Return the table with a column replaced in its place, or appended."""
    if name in table.column_names:
        return table.set_column(table.column_names.index(name), name, values)
    return table.append_column(name, values)


def drop_columns(table: pa.Table, names: Collection[str]) -> pa.Table:
    """Return the table without those of the named columns that it has."""
    return table.drop_columns([name for name in names if name in table.column_names])


def rewrite_frames(path: Path, table: pa.Table) -> None:
    """Replace a file of frames, one row group per episode as LeRobot writes them."""
    from lerobot.datasets.io_utils import write_table_one_row_group_per_episode

    with replacing_file(path) as file:
        write_table_one_row_group_per_episode(_described(table), Path(file.name))


def rewrite_table(path: Path, table: pa.Table) -> None:
    """Replace any other file."""
    with replacing_file(path) as file:
        pq.write_table(_described(table), file)


def _described(table: pa.Table) -> pa.Table:
    """Renew what Hugging Face `datasets` notes of the columns in a file, where it has noted it.

    pandas' own note lists the columns as they were, and is dropped.
    """
    from datasets import Features

    metadata = dict(table.schema.metadata or {})
    metadata.pop(b"pandas", None)
    if b"huggingface" in metadata:
        metadata |= Features.from_arrow_schema(table.schema).arrow_schema.metadata
    return table.replace_schema_metadata(metadata or None)

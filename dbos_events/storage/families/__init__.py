"""The storage protocol, one file per family of tables: named statements in, plain values out."""

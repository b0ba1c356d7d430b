"""Everything that touches a database: one protocol, PostgreSQL and SQLite behind it."""

"""Streams that are made and removed while running, with quotas and a retention of their dead letters."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("streams", sa.Column("records_per_second", sa.Float))
    op.add_column("streams", sa.Column("bytes_per_second", sa.Float))
    # With a default, so that the release before, which does not know the column, can still make streams.
    op.add_column("streams", sa.Column("dead_letter_days", sa.Integer, nullable=False, server_default=sa.text("30")))
    op.add_column("streams", sa.Column("pending", sa.Text))
    op.add_column("streams", sa.Column("deleted_at", sa.BigInteger))


def downgrade() -> None:
    raise NotImplementedError("the accounts database goes forwards only: put a backup in its place")

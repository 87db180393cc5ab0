"""Answers of jobs, and the options of clients."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("jobs", sa.Column("answer", sa.Text(), nullable=True))
    op.create_table(
        "options",
        sa.Column("client", sa.String(length=64), nullable=False),
        sa.Column("values", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("client", name="pk_options"),
    )


def downgrade() -> None:
    op.drop_table("options")
    op.drop_column("jobs", "answer")

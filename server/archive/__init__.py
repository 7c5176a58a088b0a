"""Backups: a folder that follows the logs of a store. The design: docs/design/backup.md."""

"""The commands that analyse documents and manage monitors and alerts."""

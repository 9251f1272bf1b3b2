"""The Celery application: one engine per process, thin tasks."""

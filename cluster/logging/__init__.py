"""For a log store: Elasticsearch's index template and a Filebeat configuration. Tested against real lines (tests/e2e/test_log_files.py)."""
